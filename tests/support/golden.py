"""Finds shared data, and golden vectors from the public references; both may be absent.

Use `from golden import golden_files, SHARED_DATA`.
"""

import contextlib
import os
import pathlib
import re

import jax
import numpy as np
import pytest
from repository import REPOSITORY

SHARED_DATA = pathlib.Path(
    os.environ.get("KDPOSE_SHARED_DATA", REPOSITORY.parent / "shared" / "data")
)
GOLDEN = pathlib.Path(os.environ.get("KDPOSE_GOLDEN", REPOSITORY.parent / "shared" / "golden"))


def golden_files(*patterns: str) -> list:
    """Makes parameters for `pytest.mark.parametrize`.

    They are the golden files of some kinds, or one skipped entry that says why.
    """
    found = sorted(path for pattern in patterns for path in GOLDEN.glob(f"{pattern}.npz"))
    if not found:
        reason = f"no golden file {' or '.join(patterns)} in {GOLDEN} (set KDPOSE_GOLDEN)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=path.stem) for path in found]


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns a file's arrays whose names have this prefix, under names without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def single_slack(
    arrays: dict[str, np.ndarray], kind: str, least: float, suffix: str = "64"
) -> float:
    """Returns the tolerance for a float32 result, relative to its array's largest value.

    It is ten times the reference's distance from its own float64 result.

    Args:
      arrays: one file's arrays.
      kind: `output`, `grad` or `train`.
      least: the smallest tolerance, in case the reference is nearer by chance.
      suffix: ends the names of the float64 twins.
    """
    gaps = []
    for name, single in arrays.items():
        twin = name.replace(f"{kind}/", f"{kind}{suffix}/", 1)
        if (
            name.startswith(f"{kind}/")
            and twin in arrays
            and single.dtype.kind == "f"
            and np.abs(arrays[twin]).max(initial=0)
        ):
            gaps.append(np.abs(single - arrays[twin]).max() / np.abs(arrays[twin]).max())
    return max([least, *(10 * gap for gap in gaps if np.isfinite(gap) and gap < 1e-4)])


def numbers_in(text: str, pattern: str) -> tuple[float, ...]:
    """Reads numbers from a config in words, by a pattern with a group for each."""
    found = re.search(pattern, text)
    assert found is not None, f"no {pattern} in: {text}"
    return tuple(float(number) for number in found.groups())


@contextlib.contextmanager
def precision(dtype):
    """Computes in this type, with numpy's promotions.

    Flax's norms and optax's Adam fail under the suite's strict ones.
    """
    with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("standard"):
        yield


def close(ours, reference, relative, name, absolute=0.0):
    """Compares arrays relative to the largest value, as the README asks.

    Small entries carry the error of large ones.
    """
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape, name
    np.testing.assert_allclose(
        ours, reference, rtol=0, atol=relative * np.abs(reference).max() + absolute, err_msg=name
    )


def permutation_of(pairs, joints):
    """Computes how mirroring reorders joints, from the references' left and right pairs."""
    permutation = np.arange(joints)
    for left, right in pairs:
        permutation[[left, right]] = right, left
    return permutation
