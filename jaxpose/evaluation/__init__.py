"""Predictions for a split, and their scores by the paper's protocols."""
