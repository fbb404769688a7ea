"""Distillation as in the literature, on SCJD's student.

Output regression, FitNets hints, attention transfer, relational KD.
"""
