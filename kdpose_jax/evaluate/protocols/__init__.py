"""How each data set is scored.

One published protocol a file, each with the contract in `contracts`.
"""
