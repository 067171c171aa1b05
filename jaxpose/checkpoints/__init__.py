"""Saving, restoring, packing, importing and transferring networks."""

# Kinds of checkpoints in a workdir. Defined here, so that the commands can import it without NumPy.
KINDS = ("best", "latest")
