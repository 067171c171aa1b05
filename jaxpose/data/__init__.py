"""Prepared data sets on disk to augmented batches on the host."""
