"""Synthetic people: drawn persons with exact joints, a TFDS data set."""
