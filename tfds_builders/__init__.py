"""TFDS data sets of single-person pose: lsp, lspet, mpii and synthetic_people.

`python -m tfds_builders NAME --source PATH` prepares one. Nothing here imports jaxpose: the two
meet in the prepared data set on disk and its metadata.
"""
