"""Evaluation: exact per-example scores by the data sets' protocols, and what a network costs."""
