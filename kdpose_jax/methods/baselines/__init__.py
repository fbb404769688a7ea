"""Distillation as in the literature, on SCJD's student: output regression, FitNets hints, attention transfer, relational KD."""
