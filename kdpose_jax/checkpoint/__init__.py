"""Checkpoints of a run, and the parameters of another run. Imports no other room of the package."""
