"""Scripts that maintain the project: run them from a clone as `python -m tools.NAME`."""
