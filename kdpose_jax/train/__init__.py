"""One loop and one step builder for every method."""
