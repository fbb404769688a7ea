"""Checkpoints of a run, and the parameters of another run. Imports of the package what every room may, and no other room."""
