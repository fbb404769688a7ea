"""Does everything that `--mode predict` does with motion: files to poses, and a page."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import tqdm
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files, processes
from kdpose_jax.errors import UserError, require
from kdpose_jax.keypoints import joint_names
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.page import poses_page
from kdpose_jax.page.encoding import display_stride
from kdpose_jax.poses import stored_poses
from kdpose_jax.poses.predicted import Poses
from kdpose_jax.poses.writers import outputs, table
from kdpose_jax.predict import early, loading, many, photographs, sequences, video
from kdpose_jax.predict.early import FOLDER, PAGE
from kdpose_jax.predict.lifter import Lifter
from kdpose_jax.predict.request import Request
from kdpose_jax.predict.sequences import Video
from kdpose_jax.train.preemption import Stop


def predict_and_report(
    request: Request, config: ConfigDict | None, show: Callable[[str], None], stop: Stop
) -> None:
    """Predicts what the user gave, and writes it.

    Args:
      request: what the user asks for.
      config: the experiment of a PyTorch file.
      show: prints one line.
      stop: whether the program was told to stop.

    Raises:
      UserError: any mistake of the user's.
    """
    share = jax.process_index(), jax.process_count()
    videos = None
    if request.kind != "pictures":
        videos = many.inputs_in(request.kind, request.given)
    if videos is None and share[0] > 0:
        show(
            f"note: process 0 predicts '{request.given}'; only many videos or files of keypoints "
            "are shared"
        )
        return
    if request.kind == "pictures":
        photographs.find_joints(request, config, show, stop)
        return
    place, name, formats = early.outputs_of(request)
    early.check_values(request, formats)
    if videos is not None and name is not None:
        raise UserError(
            f"--out is the file '{request.out}', and --{request.kind} is a folder or a pattern: "
            "give a folder with --out."
        )
    early.require_place(place)
    network, rate = loading.load_by_flags(request.checkpoint, config)
    if not isinstance(network, Lifter):
        raise UserError(
            f"'{request.checkpoint}' is a network for pictures, and keypoints were given: give the "
            "checkpoint of a lifter, or pictures with --pictures."
        )
    if request.lifting.rate is None:
        request = dataclasses.replace(
            request, lifting=dataclasses.replace(request.lifting, rate=rate)
        )

    def predict(path: str, base: epath.Path) -> tuple[Sequence[epath.Path], Sequence[str]]:
        # Nothing else holds what the file has: it is gone when its joints have been converted.
        ready = sequences.prepare(
            find_keypoints(request, path, base, show), network, request.lifting, f"'{path}'"
        )
        paths, notes = lift_and_write(request, ready, path, network, base, formats, show, stop)
        # A video without the keypoints that were kept is not done: it is detected again.
        kept = [video.kept_beside(base)] if request.kind == "video" else []
        return [*paths, *kept], notes

    if videos is None:
        predict(request.given, place / (name or many.stem_of(request.given)))
        return
    options = request.output_options() | {"formats": formats}
    if request.reading["map_file"] is not None:
        options["map"] = joint_names.read_map(request.reading["map_file"])
    task = many.Task(network.fingerprint, options)
    try:
        many.run_all(videos, place, task, predict, show, share)
    finally:
        if share[1] > 1:  # jax ends the others one minute after the first one
            processes.wait_for_all("predictions")


def find_keypoints(
    request: Request, path: str, base: epath.Path, show: Callable[[str], None]
) -> Keypoints:
    """Reads the keypoints of a path, or lets a detector find those of a video."""
    if request.kind == "keypoints":
        return read_keypoints(path, **request.reading)
    return video.detect(path, request.detector, request.python, base, request.reading, show)


def lift_and_write(
    request: Request,
    ready: Video,
    path: str,
    network: Lifter,
    base: epath.Path,
    formats: Sequence[str],
    show: Callable[[str], None],
    stop: Stop,
) -> tuple[Sequence[epath.Path], Sequence[str]]:
    """Lifts one video and writes its outputs.

    Returns:
      The files, and the notes.
    """
    stored, title = [name for name in formats if name != PAGE], many.stem_of(path)
    table.check(stored, request.writing, ready.about, has_3d=True)
    for note in ready.about.notes:
        show(f"note: {note}")
    with outputs.Outputs(base, stored, request.writing) as spool:
        for block in with_progress(sequences.lift(ready, network, request.lifting), ready):
            stop.obey()
            spool.append(block)
        written = spool.finish()
        paths, notes = list(written.paths), [*ready.about.notes, *written.notes]
        if PAGE in formats:
            paths.append(write_page(spool, len(network.joints), base, notes, title))
    for note in written.notes:
        show(f"note: {note}")
    show(
        f"{len(ready.tracks)} person(s), {ready.frames:,} frames, in {base.parent}: "
        + ", ".join(path.name for path in paths)
    )
    return paths, notes


def write_page(
    spool: outputs.Outputs, joints: int, base: epath.Path, notes: Sequence[str], title: str
) -> epath.Path:
    """Writes the page of what the other files hold, with fewer frames where there are many."""
    path = base.parent / f"{base.name}.{PAGE}"
    stride = display_stride(spool.frames, joints, lifts=True, overlays=0)
    poses = dataclasses.replace(spool.thinned(stride), notes=tuple(notes))
    poses_page.write_poses_page(path, poses, title=title, stride=stride)
    return path


def with_progress(blocks: Iterator[Poses], video: Video) -> Iterator[Poses]:
    """Yields the blocks, with a bar on terminals."""
    with tqdm.tqdm(total=video.frames, unit="frame", disable=None, leave=False) as bar:
        for block in blocks:
            yield block
            bar.update(sum(len(person.valid) for person in block.persons))


def convert_poses(path: str, formats: str, request: Request, show: Callable[[str], None]) -> None:
    """Writes poses that exist already in other formats: `--mode export --poses FILE`.

    Args:
      path: an npz file of poses.
      formats: names of formats with commas; "" takes that of the ending of `--out`.
      request: the other flags.
      show: prints one line.

    Raises:
      UserError: the file does not hold poses, or a format cannot hold them.
    """
    names = [name.strip() for name in formats.split(",") if name.strip()]
    for name in names:
        require("--format", name, table.FORMATS)
    out = files.absolute(request.out or FOLDER)
    if out.suffix:
        base, ending = outputs.split_path(out)
        if names not in ([], [ending]):
            raise UserError(
                f"--out is '{request.out}' and --format is '{formats}': let them agree, or give a "
                "folder with --out."
            )
        names = [ending]
    else:
        base = out / many.stem_of(path)
    if not names:
        raise UserError("--format is missing: give one of " + ", ".join(table.FORMATS) + ".")
    said = request.reading
    found = stored_poses.read_poses(path, said["fps"], request.axes, said["joints"])
    written = outputs.write(found, base, names, request.writing)
    for note in dict.fromkeys((*found.notes, *written.notes)):
        show(f"note: {note}")
    show(", ".join(str(path) for path in written.paths))
