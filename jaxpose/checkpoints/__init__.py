"""Saving, restoring, packing, importing and transferring networks."""

KINDS = ("best", "latest")  # of the checkpoints of a workdir; here, since commands load no NumPy
