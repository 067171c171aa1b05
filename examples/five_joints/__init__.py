"""Train a network on a custom data set: five joints of drawn stick figures."""
