"""Studies: lists of runs with several seeds, compared in one table.

They are declared in `configs/studies`.
"""
