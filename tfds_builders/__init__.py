"""TFDS data sets of single-person pose: lsp, lspet, mpii, coco, backgrounds, synthetic_people.

``python -m tfds_builders NAME --source PATH`` prepares one. Only ``coco`` imports jaxpose (for its
COCO reader); otherwise the two packages share only the prepared data on disk and its metadata.
"""
