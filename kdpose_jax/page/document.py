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
# In this order: the last one opens the page.
_SCRIPTS = (
    "scene.js",
    "downloads.js",
    "drawing.js",
    "chart.js",
    "controls.js",
    "clips.js",
    "player.js",
)


def page(title: str, body: str, data: Any, styles: tuple[str, ...] = ("player.css",)) -> bytes:
    """Makes a whole page.

    The browser runs the page's own script alone, whose checksum the policy names. So a text that
    escaped its place would still not run.

    Args:
      title: the title, as plain text.
      body: the content, as HTML.
      data: what the script reads, as `json` takes it. NaN is not allowed.
      styles: names of the style's source files.

    Returns:
      The file.
    """
    script = "\n".join(without_comments(source(name)) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
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


def source(name: str) -> str:
    """Reads one of the page's source files, which travel in the package."""
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
