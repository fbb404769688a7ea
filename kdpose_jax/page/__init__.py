"""Writes pages to look at: poses that move, and how a network was trained. Each is one file."""
