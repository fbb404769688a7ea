"""Converts MPI-INF-3DHP, official or in P-STMO's npz files."""
