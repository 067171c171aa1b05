"""Drawn dogs with seven joints, in COCO's format: own data for docs/own_data.md."""
