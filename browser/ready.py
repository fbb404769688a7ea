"""Says what the page takes of a network that is ready to run in it, whatever runs it."""

import base64
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kdpose_jax.errors import UserError
from kdpose_jax.predict.description import LIFTER, Description

Show = Callable[[str], None]  # prints one line


class Ready(NamedTuple):
    """A network that is ready for the page.

    Attributes:
      about: the network's description.
      place: the page, where the user names no other file.
      facts: says what the page holds of the network, in a few words.
      words: says in a sentence what runs the network.
      script: JavaScript that has `runtime.openNetwork`.
      sizes: plain values that `openNetwork` takes.
      bytes: what else it takes, by name.
      allows: what the script may run beside itself, as sources of `script-src`.
    """

    about: Description
    place: pathlib.Path
    facts: str
    words: str
    script: str
    sizes: Mapping[str, Any]
    bytes: Mapping[str, bytes]
    allows: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Any]:
        """What `openNetwork` takes, as JSON can hold it: bytes are in base64."""
        texts = {name: base64.b64encode(one).decode("ascii") for name, one in self.bytes.items()}
        return {"sizes": dict(self.sizes), "bytes": texts}


def refuse_pictures(about: Description, checkpoint: str) -> None:
    """Refuses a network that is not a lifter.

    Raises:
      UserError: it is a network for pictures.
    """
    if about.kind != LIFTER:
        raise UserError(
            f"'{checkpoint}' is a network for pictures, and the page lifts keypoints: name a "
            "lifter."
        )
