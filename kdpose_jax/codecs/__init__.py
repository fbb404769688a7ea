"""Coordinates as the networks see them, and their inverses.

Labels and decoding side by side, one file per task.
"""
