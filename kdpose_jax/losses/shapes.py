"""Refuses arrays that would be broadcast in a loss, which would change its mean unseen."""

from jaxtyping import Array


def require_same_shape(first: Array, second: Array) -> None:
    """Refuses two arrays of different shapes, which cannot be compared value by value.

    Raises:
      ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"arrays of shapes {first.shape} and {second.shape} cannot be compared: broadcasting "
            "would change the mean"
        )
