"""From a config to results: data, teacher, student, evaluation, report. Knows the config, and no pose."""
