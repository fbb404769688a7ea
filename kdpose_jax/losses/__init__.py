"""Task losses shared by the methods, one file per task.

Every function returns one value per example.
"""
