"""Draw dogs with seven joints and annotate them in COCO's format (docs/own_data.md)."""
