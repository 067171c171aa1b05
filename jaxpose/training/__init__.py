"""Training of a config: ``loop.train`` is the entry, ``step`` the mathematics."""
