"""Writes predicted poses in the formats that people and programs read."""
