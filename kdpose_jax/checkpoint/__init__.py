"""Checkpoints of a run, and the parameters of another run. Imports nothing of the package but `errors` and `files`."""
