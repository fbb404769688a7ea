"""Training methods: one folder each, all built to the contract in `api`."""
