"""The formats of exported networks: each is written and run by one module."""
