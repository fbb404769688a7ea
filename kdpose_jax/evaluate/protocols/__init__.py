"""How each data set is scored: one published protocol a file, each with the contract in `contracts`."""
