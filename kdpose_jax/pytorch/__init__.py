"""Reads published PyTorch weights without PyTorch, and runs nothing that a file holds."""
