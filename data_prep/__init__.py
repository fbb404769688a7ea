"""Raw pose files -> TFRecord data sets; the entry point is `python -m data_prep.convert`."""
