"""What a user asks of a prediction, as the command line says it."""

import dataclasses
from typing import Any

from kdpose_jax.poses.writers.table import WritingOptions


@dataclasses.dataclass(frozen=True)
class LiftingOptions:
    """How the keypoints of a file are taken.

    Attributes:
      person: the person to lift (`--person`); None lifts all.
      gap: the longest gap that is filled, seconds (`--gap`).
      score: keypoints with a lower score count as missing (`--score`).
      rate: frames per second that the network was trained at (`--rate`); None if nobody knows.
      flip: whether to average with the prediction for the mirrored person (`--flip`).
      overlap: whether windows overlap and are averaged (`--overlap`).
    """

    person: str | None
    gap: float
    score: float
    rate: float | None
    flip: bool
    overlap: bool


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
      checkpoint: the network: a run's folder, a step's, a PyTorch file or an exported one.
      given: the file, folder or pattern of keypoints, of videos or of pictures.
      kind: what `given` is: `keypoints`, `video` or `pictures`.
      out: a folder, or the file of one format; "" for the folder `poses`.
      formats: names of formats (`--to`); () for npz and the page.
      reading: arguments of `read_keypoints`, but for the path.
      lifting: how keypoints are taken.
      writing: what is asked of the outputs.
      detector: the source of a video's keypoints (`--detector`).
      python: the interpreter that has the detector (`--detector_python`); "" for this one.
      boxes: the file of boxes of persons in pictures (`--boxes`); "" takes pictures whole.
      axes: the axes of a file of poses that does not say them (`--axes`); None to find them.
    """

    checkpoint: str
    given: str
    kind: str
    out: str
    formats: tuple[str, ...]
    reading: dict[str, Any]
    lifting: LiftingOptions
    writing: WritingOptions
    detector: str
    python: str
    boxes: str
    axes: str | None = None

    def output_options(self) -> dict[str, Any]:
        """Returns what decides the outputs beside the network and the content of the input."""
        everything = dataclasses.asdict(self)
        names = ["reading", "lifting", "writing", "formats"]
        if self.kind == "video":
            names.append("detector")
        return {name: everything[name] for name in names}
