"""Runs an experiment from its config to its results.

The stages are data, teacher, student, evaluation and report. What belongs to one task is asked of
the method, the reader and the protocol; `taught_poses` alone serves lifting only.
"""
