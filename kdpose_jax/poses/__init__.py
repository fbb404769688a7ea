"""Writes predicted poses in the formats of other programs, and reads them back."""
