"""Presets: one file per experiment."""
