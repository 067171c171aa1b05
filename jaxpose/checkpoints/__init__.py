"""Saving, restoring, packing, importing and transferring networks."""
