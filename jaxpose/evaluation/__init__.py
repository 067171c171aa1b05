"""Predictions for a split, and their metrics by the paper's protocols."""
