"""CDKD: a student on small crops learns from a teacher on large ones."""
