"""Images without people."""
