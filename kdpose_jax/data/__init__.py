"""Records on disk -> batches of windows."""
