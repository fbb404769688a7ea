"""The tasks that methods train: one network, its loss and its predictions each."""
