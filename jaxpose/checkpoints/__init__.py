"""Saving, restoring, packing, importing and transferring networks."""

# Defined here, so that the commands can import them without NumPy.
KINDS = ("best", "latest")  # kinds of checkpoints in a workdir
DEFAULT_NETWORK = "base"  # shipped network that predicts if no other checkpoint is given
