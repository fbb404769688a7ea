"""What is shared and may be absent.

Data, and golden vectors of the public references: `from golden import golden_files, SHARED_DATA`.
"""

import contextlib
import os
import pathlib
import re

import jax
import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SHARED_DATA = pathlib.Path(
    os.environ.get("KDPOSE_SHARED_DATA", REPOSITORY.parent / "shared" / "data")
)
GOLDEN = pathlib.Path(os.environ.get("KDPOSE_GOLDEN", REPOSITORY.parent / "shared" / "golden"))


def golden_files(*patterns: str) -> list:
    """Parameters for `pytest.mark.parametrize`.

    The golden files of some kinds, or one skipped entry that says why.
    """
    found = sorted(path for pattern in patterns for path in GOLDEN.glob(f"{pattern}.npz"))
    if not found:
        reason = f"no golden file {' or '.join(patterns)} in {GOLDEN} (set KDPOSE_GOLDEN)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=path.stem) for path in found]


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a file whose names begin so, without the prefix."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def single_slack(
    arrays: dict[str, np.ndarray], kind: str, least: float, suffix: str = "64"
) -> float:
    """How far a float32 result may be off, relative to its array's largest value: ten times what
    the reference is off its own float64.

    Args:
      arrays: of one file.
      kind: `output`, `grad` or `train`.
      least: where the reference happens to be nearer than that.
      suffix: of the float64 twins.
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
    """The numbers that a file's config gives in words, by a regular expression with a group for
    each.
    """
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
    """Compares with the largest value of the array, as the README asks.

    Small entries carry the error of large ones.
    """
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape, name
    np.testing.assert_allclose(
        ours, reference, rtol=0, atol=relative * np.abs(reference).max() + absolute, err_msg=name
    )


def permutation_of(pairs, joints):
    """What mirroring does to the order of joints, from the references' pairs of left and right
    ones.
    """
    permutation = np.arange(joints)
    for left, right in pairs:
        permutation[[left, right]] = right, left
    return permutation
