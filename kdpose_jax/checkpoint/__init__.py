"""Saves and restores the checkpoints of a run, and reads those of another run.

It imports no other room of the package.
"""
