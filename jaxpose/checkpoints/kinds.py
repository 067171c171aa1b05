"""The kinds of checkpoints that a workdir has, for commands that load no library to name them."""

KINDS = ("best", "latest")
