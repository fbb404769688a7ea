"""Writes the page of a video's poses, with which a user looks at what a network did."""

import dataclasses
from collections.abc import Sequence

from etils import epath

from kdpose_jax.files import write_atomically
from kdpose_jax.page import document
from kdpose_jax.page.encoding import Overlay, display_stride, encode
from kdpose_jax.poses.predicted import Poses, thinned


def write_poses_page(
    path: epath.PathLike,
    poses: Poses,
    *,
    title: str,
    teacher: Poses | None = None,
    truth: Poses | None = None,
    stride: int | None = None,
) -> None:
    """Writes poses as one HTML file, which needs neither a network connection nor WebGL.

    A long video is shown with one frame in k, so that the file stays below 5 MB. The page says so.

    Args:
      path: the file, in a folder that exists.
      poses: the poses.
      title: what is shown, such as the name of the user's file.
      teacher: a teacher's poses of the same persons, frames and joints, to show with them.
      truth: the true poses, likewise.
      stride: the poses hold the frames of the video whose number divides by it, as
        `encoding.display_stride` chooses it. None if they hold all frames, of which the page then
        shows those that it chooses.

    Raises:
      UserError: the file cannot be written.
      ValueError: `teacher` or `truth` has other persons, frames or joints.
    """
    page = poses_page(poses, title=title, teacher=teacher, truth=truth, stride=stride)
    write_atomically(path, page)


def poses_page(
    poses: Poses,
    *,
    title: str,
    teacher: Poses | None = None,
    truth: Poses | None = None,
    stride: int | None = None,
) -> bytes:
    """Makes the page that `write_poses_page` writes."""
    overlays: dict[Overlay, Poses] = {}
    if teacher is not None:
        overlays["teacher"] = teacher
    if truth is not None:
        overlays["truth"] = truth
    if stride is None:
        frames = sum(len(person.valid) for person in poses.persons)
        lifts = any(person.pose_3d is not None for person in poses.persons)
        stride = display_stride(frames, len(poses.joints), lifts, len(overlays))
        poses, overlays = (
            _thinned(poses, stride),
            {name: _thinned(other, stride) for name, other in overlays.items()},
        )
    scene, left_out = encode(poses, overlays, stride)
    notes = [*poses.notes, *left_out]
    about = {"title": title, "network": poses.network, "fingerprint": poses.fingerprint}
    player = document.source("player.html") if poses.persons else "<p>There is no person.</p>"
    body = "\n".join(
        [
            f"<h1>{document.text(title)}</h1>",
            f'<p class="facts">{facts(poses)}</p>',
            player,
            notes_list(notes),
        ]
    )
    clips = (
        [{"name": title, "about": {**about, "notes": notes}, "scene": scene}]
        if poses.persons
        else []
    )
    return document.page(title, body, {"clips": clips})


def _thinned(poses: Poses, stride: int) -> Poses:
    """Keeps the frames whose number divides by `stride`."""
    return dataclasses.replace(
        poses, persons=tuple(thinned(person, stride) for person in poses.persons)
    )


def facts(poses: Poses) -> str:
    """Says in a line of HTML which network saw what."""
    seconds = poses.length / poses.fps
    count = len(poses.persons)
    parts = [
        document.text(poses.network),
        f"parameters <code>{document.text(poses.fingerprint)}</code>",
        f"{count:,} person{'' if count == 1 else 's'}",
        f"{poses.length:,} frames at {poses.fps:.4g} per second, {seconds:,.1f} s",
    ]
    return " &middot; ".join(parts)


def notes_list(notes: Sequence[str]) -> str:
    """Writes notes as an open list of HTML; nothing if there are none."""
    if not notes:
        return ""
    items = "\n".join(f"<li>{document.text(note)}</li>" for note in notes)
    listed = f'<ul class="notes">\n{items}\n</ul>'
    return f"<details open>\n<summary>Notes</summary>\n{listed}\n</details>"
