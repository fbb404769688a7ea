"""Scores each data set by its published protocol.

Each file has one protocol, which follows the contract in `contracts`.
"""
