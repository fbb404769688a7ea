"""Converts Human3.6M, or another set in VideoPose3D's npz layout."""
