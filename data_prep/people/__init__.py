"""Generates photographs of people, in the raw layouts of MPII and COCO.

All of it is our own design.
"""
