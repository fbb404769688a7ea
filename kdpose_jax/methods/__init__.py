"""Training methods, one folder each. All satisfy `contracts.MethodModule`."""
