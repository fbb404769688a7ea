"""From a config to results.

Data, teacher, student, evaluation, report. Knows the config, and no pose.
"""
