"""Networks: Linen modules that return (prediction, features)."""
