"""Train a network on a data set of your own: five joints of drawn stick figures."""
