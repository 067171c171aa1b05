"""Train a network: ``loop.train`` is the entry point, ``step`` the computation of one step."""
