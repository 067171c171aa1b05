"""TFDS data sets of single-person pose: lsp, lspet, mpii, coco, backgrounds, synthetic_people.

``python -m tfds_builders NAME --source PATH`` prepares one. ``coco`` imports jaxpose, for its COCO
reader. The other data sets do not: jaxpose only reads their files and metadata from disk.
"""
