"""Distillation of human-pose networks: accurate teachers, fast students."""

__version__ = "0.2.0"
