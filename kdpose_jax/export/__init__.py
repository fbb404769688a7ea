"""Writes trained networks as files that run elsewhere, each checked against the network."""
