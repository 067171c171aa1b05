"""A local page that shows predictions and heat maps for a photo."""
