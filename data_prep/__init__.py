"""Converts raw pose files to TFRecord data sets, with `python -m data_prep.convert`."""
