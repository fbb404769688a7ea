"""Coordinates as the networks see them, and their inverses: labels and decoding side by side, one file per task."""
