"""Lists of runs with several seeds: declared in `configs/studies`, trained, and compared in one table."""
