"""Fills in the pages' template. A page is one file, and its policy forbids it any request."""

import base64
import hashlib
import html
import json
import pathlib
import re
import string
from typing import Any

import kdpose_jax

_FOLDER = pathlib.Path(__file__).parent
# In this order.
_PLAYER = (
    "scene.js",
    "downloads.js",
    "drawing.js",
    "chart.js",
    "controls.js",
    "clips.js",
    "player.js",
)
_OPENING = "opening.js"


def page(
    title: str,
    body: str,
    data: Any,
    styles: tuple[str, ...] = ("player.css",),
    script: str | None = None,
    allows: tuple[str, ...] = (),
) -> bytes:
    """Makes a whole page.

    The browser runs the page's own script alone, whose checksum the policy names. So a text that
    escaped its place would still not run.

    Args:
      title: the title, as plain text.
      body: the content, as HTML.
      data: what the script reads, as `json` takes it. NaN is not allowed.
      styles: names of the style's source files.
      script: the script; None takes the player's, which opens the first clip of `data`.
      allows: what the script may run beside itself, as sources of `script-src`.

    Returns:
      The file.
    """
    if script is None:
        script = "\n".join([player_script(), without_comments(source(_OPENING))])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    runs = " ".join([f"'sha256-{digest}'", *allows])
    policy = (
        f"default-src 'none'; script-src {runs}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    filled = string.Template(source("template.html")).substitute(
        title=text(title),
        policy=policy,
        generator=text(f"kdpose_jax {kdpose_jax.__version__}"),
        style="\n".join(without_comments(source(name)) for name in styles),
        body=body,
        data=embedded(data),
        script=script,
    )
    return filled.encode()


def player_script() -> str:
    """Returns the code of the player, which opens nothing by itself."""
    return "\n".join(without_comments(source(name)) for name in _PLAYER)


def source(name: str) -> str:
    """Reads a source file: one that travels in the package, by its name, or one by its path."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def without_comments(code: str) -> str:
    """Drops comments in blocks, indentation and empty lines, which are a fifth of a page's code.

    No text in the sources has `/*`, and none goes over several lines.
    """
    lines = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def text(words: object) -> str:
    """Writes plain text as HTML, for content and for attributes in quotes."""
    return html.escape(str(words).encode("utf-8", "replace").decode())


def embedded(data: Any) -> str:
    """Writes data as JSON that can stand in a script element.

    `</script>` and `<!--` would end or change the element, so no `<` is left.
    """
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
