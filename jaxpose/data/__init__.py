"""Load prepared data sets from disk as augmented batches on the host."""
