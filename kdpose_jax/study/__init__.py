"""Lists of runs with several seeds.

Declared in `configs/studies`, trained, and compared in one table.
"""
