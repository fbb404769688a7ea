"""Weights of published PyTorch files, read without PyTorch and without running what they hold."""
