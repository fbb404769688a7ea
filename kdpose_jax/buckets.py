"""Checks buckets of Google Cloud Storage, and puts their errors into one sentence.

Imports only `errors`. It reads and writes nothing. Small files go through etils.epath (TensorFlow's
file system), records through TensorFlow, and arrays through TensorStore. Each of these retries
passing errors. This module handles the errors after which they gave up.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator

from etils import epath

from kdpose_jax.errors import UserError

PREFIX = "gs://"
# Orbax asks a bucket what kind it is, and lists, writes and deletes objects in it.
READING = ("storage.buckets.get", "storage.objects.get", "storage.objects.list")
WRITING = (*READING, "storage.objects.create", "storage.objects.delete")
# Statuses of TensorStore that blame the storage and not the data in it. All its errors are
# ValueErrors.
_STATUS = re.compile(
    "(UNAVAILABLE|DEADLINE_EXCEEDED|PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED|ABORTED): "
)
_LONGEST_REASON = 300


def is_bucket(path: epath.PathLike) -> bool:
    """Returns whether a path lies in a bucket."""
    return os.fspath(path).startswith(PREFIX)


def check_access(path: epath.PathLike, *, writes: bool) -> None:
    """Checks before any work that this program may use a bucket. Paths on a disk pass.

    Args:
      path: path of records, checkpoints or results, which may not exist yet.
      writes: whether anything is written there.

    Raises:
      UserError: there are no credentials, no such bucket or too few permissions, or Orbax cannot
        prune this kind of bucket with the installed packages.
    """
    if is_bucket(path):
        _check_bucket(
            os.fspath(path).removeprefix(PREFIX).split("/")[0], WRITING if writes else READING
        )


@functools.lru_cache
def _check_bucket(name: str, needed: tuple[str, ...]) -> None:
    from google.auth import (
        exceptions as auth_exceptions,  # imported late, as it takes a second
    )

    # Many packages share google.cloud, and this one has no types.
    from google.cloud import exceptions, storage  # type: ignore[attr-defined]

    remedy = "correct the path, or make the bucket first (gcloud storage buckets create)"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name):
        raise UserError(f"'{PREFIX}{name}' names no bucket: write gs://BUCKET/FOLDER.")
    try:
        bucket = storage.Client().bucket(name)
        missing = sorted(set(needed) - set(bucket.test_iam_permissions(needed)))
        if not missing:
            bucket.reload()
    except (auth_exceptions.DefaultCredentialsError, exceptions.Unauthorized) as error:
        raise UserError(
            f"There are no credentials for bucket '{name}': run `gcloud auth application-default "
            "login`, or name a service account's key file in GOOGLE_APPLICATION_CREDENTIALS."
        ) from error
    except exceptions.NotFound as error:
        raise UserError(f"There is no bucket '{name}': {remedy}.") from error
    except exceptions.Forbidden as error:
        raise UserError(
            f"Bucket '{name}' refuses these credentials ({_one_line(error)}): ask its owner for "
            f"access to it."
        ) from error
    except (auth_exceptions.GoogleAuthError, exceptions.GoogleCloudError, OSError) as error:
        raise UserError(
            f"Bucket '{name}' cannot be reached ({_one_line(error)}): check the network and the "
            f"credentials."
        ) from error
    if missing:
        raise UserError(
            f"In bucket '{name}' these credentials lack {', '.join(missing)}: ask its owner for "
            "roles/storage.objectUser and roles/storage.legacyBucketReader on it."
        )
    if bucket.hierarchical_namespace_enabled and needed is WRITING:
        raise UserError(
            f"Bucket '{name}' has a hierarchical namespace, in which checkpoints cannot be "
            f"pruned: use one without."
        )


def failure(error: BaseException) -> str | None:
    """Returns the error of a bucket's client on one line, None if it is not a client's."""
    kinds = {
        kind.__module__.partition(".")[0] + "." + kind.__name__ for kind in type(error).__mro__
    }
    if kinds & {
        "tensorflow.OpError",
        "google.GoogleAPICallError",
        "google.RetryError",
        "google.GoogleAuthError",
    }:
        return _one_line(error)
    return _one_line(error) if isinstance(error, ValueError) and _STATUS.match(str(error)) else None


@contextlib.contextmanager
def one_sentence(place: epath.PathLike) -> Iterator[None]:
    """Turns the error of a bucket's client into one sentence about `place`.

    Raises:
      UserError: replaces a client's error. Others pass through.
    """
    try:
        yield
    except Exception as error:
        said = sentence(error, f"'{place}'")
        if said is None:
            raise
        raise UserError(said) from error


def sentence(error: BaseException, place: str) -> str | None:
    """Makes the sentence for an error of a bucket's client, None if it is not a client's."""
    reason = failure(error)
    if reason is None:
        return None
    return (
        f"{place} could not be reached ({reason}): check the bucket and the network, then give the "
        "same command again; what was written before is whole."
    )


def _one_line(error: BaseException) -> str:
    # TensorFlow's text only, without the operation that failed.
    said = getattr(error, "message", None) or str(error)
    return " ".join(str(said).split())[:_LONGEST_REASON]
