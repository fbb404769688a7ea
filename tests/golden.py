"""The golden vectors of the public references, where they are present: `from golden import golden_files`."""

import os
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = pathlib.Path(os.environ.get("KDPOSE_GOLDEN", REPOSITORY.parent / "shared" / "golden"))


def golden_files(*patterns: str) -> list:
    """Parameters for `pytest.mark.parametrize`: the golden files of some kinds, or one skipped entry that says why."""
    found = sorted(path for pattern in patterns for path in GOLDEN.glob(f"{pattern}.npz"))
    if not found:
        reason = f"no golden file {' or '.join(patterns)} in {GOLDEN} (set KDPOSE_GOLDEN)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=path.stem) for path in found]
