"""Task losses shared by the methods, one file per task, and the check that all losses make.

Every loss returns one value per example.
"""
