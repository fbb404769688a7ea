"""Writes results for people to read: the results file, tables and figures. Knows no poses."""
