"""Reads records, and makes batches of windows or of crops from them."""
