"""Scores every example exactly, by the data sets' protocols, and measures a network's cost."""
