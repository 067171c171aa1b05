"""TFDS data sets of single-person pose: lsp, lspet, mpii, coco, backgrounds, synthetic_people.

`python -m tfds_builders NAME --source PATH` prepares one. Nothing here imports jaxpose but `coco`,
which uses its reader of COCO's JSON: the two packages meet in the prepared data set on disk and its
metadata.
"""
