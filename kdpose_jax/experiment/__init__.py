"""Runs an experiment from its config to its results.

The stages are data, teacher, student, evaluation and report. This room knows the config and
nothing about poses.
"""
