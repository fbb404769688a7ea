"""Builds one offline page that runs a lifter in the browser.

  python -m browser.build --checkpoint RUN/student [--out FILE.html]

`--checkpoint` names a run, which is exported as LiteRT first, or a .tflite file that was exported
before. npm must be installed. See docs/use/browser.md.

Exit codes: 0 done; 2 a mistake, in one sentence.
"""

import argparse
import base64
import gzip
import pathlib
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from browser.sample import sample_for
from kdpose_jax import entry, files
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import weights
from kdpose_jax.export import pipeline
from kdpose_jax.export.formats import table
from kdpose_jax.keypoints import layouts
from kdpose_jax.page import document
from kdpose_jax.predict import artifacts
from kdpose_jax.predict.description import LIFTER, Description
from kdpose_jax.untrusted.documents import load_json

HERE = pathlib.Path(__file__).parent
MODULES = HERE / "node_modules"
RUNTIME = MODULES / "@litertjs" / "core"
# This build needs no relaxed SIMD, which not every browser has, and no headers of a server, as
# threads do.
GLUE, WASM = (RUNTIME / "wasm" / f"litert_wasm_compat_internal.{kind}" for kind in ("js", "wasm"))
SCRIPTS = ("keypoints.js", "windows.js", "demo.js")  # in this order, after the player
FORMAT = "litert"
TAKEN = (FORMAT, "litert_float16", "litert_int8_dynamic")  # those that were tried in a browser
LONGEST_S = 300  # for npm
# The script comes with the WebAssembly from the page itself, as a blob.
ALLOWS = ("'wasm-unsafe-eval'", "blob:")


def build(checkpoint: str, out: str, show: Callable[[str], None]) -> pathlib.Path:
    """Builds the page.

    Args:
      checkpoint: a run's folder, one of its steps, or an exported .tflite file.
      out: the page; "" puts it beside the exported file.
      show: prints one line.

    Returns:
      The page.

    Raises:
      UserError: npm is missing or fails, the network is not a lifter, or the user made any other
        mistake.
    """
    install(show)
    file, about = exported(checkpoint, show)
    page = files.absolute(out) if out else file.with_suffix(".html")
    content = page_of(file, about)
    files.write_atomically(page, content)
    show(f"{page}: {len(content) / 1e6:.1f} MB, opens in a browser, also without a server")
    return pathlib.Path(page)


def install(show: Callable[[str], None]) -> None:
    """Installs what package-lock.json pins, if it is not there. No script of a package is run.

    Raises:
      UserError: npm is missing or fails.
    """
    wanted = load_json(HERE / "package.json")
    pins = wanted["dependencies"] | wanted["devDependencies"]
    if all(_version_of(name) == version for name, version in pins.items()):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("The page needs npm, which is not installed: install Node.js 20 or later.")
    show(f"installing {', '.join(f'{name} {version}' for name, version in pins.items())} by npm")
    _call([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], "npm ci")


def _version_of(name: str) -> str | None:
    """Returns the version of an installed package, None if it is not there."""
    try:
        return load_json(MODULES / name / "package.json")["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _call(command: list[str], name: str) -> str:
    """Runs a command in this folder and returns its output.

    Raises:
      UserError: it fails or hangs.
    """
    try:
        done = subprocess.run(
            command, cwd=HERE, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"`{name}` in {HERE} took over {LONGEST_S} s: look at the connection, and start again."
        ) from error
    if done.returncode:
        told = " ".join(done.stderr.split())[-300:]
        raise UserError(f"`{name}` in {HERE} failed ({told}): run it there to see why.")
    return done.stdout


def exported(checkpoint: str, show: Callable[[str], None]) -> tuple[pathlib.Path, Description]:
    """Finds a network's LiteRT file, and writes it if a run is named.

    Raises:
      UserError: it is not a lifter's, or of another format; or as in `export_and_report`.
    """
    path = weights.resolve(checkpoint)
    if artifacts.is_artifact(path):
        file = pathlib.Path(path)
    elif weights.is_weight_file(path):
        raise UserError(
            f"--checkpoint is the file of weights '{checkpoint}': export it with --mode export "
            f"--format {FORMAT} and its --config, and name the .tflite file."
        )
    else:
        [file] = pipeline.export_and_report(None, path, FORMAT, "", "", show)
    if table.format_of(file) not in TAKEN:
        raise UserError(
            f"--checkpoint is '{checkpoint}', and the page runs {', '.join(TAKEN)}: export one of "
            "them, or name the network's run."
        )
    if not file.exists():
        raise UserError(f"There is no '{file}': export a network with --mode export first.")
    _, about = artifacts.read_sidecar(artifacts.sidecar_of(file))
    if about.kind != LIFTER:
        raise UserError(
            f"'{checkpoint}' is a network for pictures, and the page lifts keypoints: name a "
            "lifter."
        )
    return file, about


def page_of(file: pathlib.Path, about: Description) -> bytes:
    """Makes the page of an exported network."""
    sample = sample_for(about.layout)
    weight = file.stat().st_size
    packages = load_json(HERE / "package.json")["dependencies"]
    facts = [
        document.text(about.name),
        f"parameters <code>{document.text(about.fingerprint)}</code>",
        f"{weight / 1000:,.0f} kB, {document.text(table.FORMATS[_format_of(file)].words)}",
        f"reads {about.window} frames and lifts {about.predicted} at once",
    ]
    body = string.Template((HERE / "demo.html").read_text(encoding="utf-8")).substitute(
        player=document.source("player.html").replace("<section", "<section hidden", 1),
        files=(
            "A file is the json of <code>kdpose predict</code>, COCO results, AlphaPose's json, or "
            'plain: <code>{"size": [1920, 1080], "fps": 30, "joints": "coco_17", '
            '"keypoints_2d": [frames][joints][x, y]}</code>.'
        ),
        runtime=(
            "Keypoints stay on this machine: the page cannot send anything. The network runs by "
            f"LiteRT.js {packages['@litertjs/core']} (Apache-2.0), in WebAssembly."
        ),
    )
    head = (
        "<h1>2D keypoints to 3D poses, in this page</h1>\n"
        f'<p class="facts">{" &middot; ".join(facts)}</p>\n'
    )
    data = {
        "network": network_of(about),
        "sample": sample,
        "model": _text(file.read_bytes()),
        "glue": _text(_zipped(GLUE)),
        "wasm": _text(_zipped(WASM)),
    }
    return document.page(
        f"{about.name}: 2D keypoints to 3D poses",
        head + body,
        data,
        ("player.css", str(HERE / "demo.css")),
        script(),
        ALLOWS,
    )


def script() -> str:
    """Makes the page's script: the player, the runtime's package, and the sources here."""
    esbuild = MODULES / ".bin" / "esbuild"
    command = [str(esbuild), "runtime.js", "--bundle", "--minify", "--format=iife"]
    bundled = _call([*command, "--global-name=runtime"], "esbuild")
    own = (document.without_comments(document.source(str(HERE / name))) for name in SCRIPTS)
    return "\n".join([document.player_script(), bundled, *own])


def network_of(about: Description) -> dict[str, Any]:
    """Says what the page must know of a network."""
    layout = about.layout
    return {
        "name": about.name,
        "fingerprint": about.fingerprint,
        "joints": list(layout.joints),
        "parents": list(layout.parents),
        "window": about.window,
        "predicted": about.predicted,
        "before": about.before,
        "keyframe_stride": about.keyframe_stride,
        "layouts": {name: _ways(one, layout.joints) for name, one in layouts.layouts().items()},
    }


def _ways(layout: layouts.Layout, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Says how a layout's joints make the network's; see `conversionOf` in keypoints.js."""
    ways = layouts.ways_to_make(wanted, layout.joints)
    absent = [joint for joint, way in ways.items() if way is None]
    return {
        "count": layout.total,
        "joints": list(layout.joints),
        "ways": None if absent else [dict(way.weights) for way in ways.values() if way],
        "made": [f"{joint} from {way.name}" for joint, way in ways.items() if way and way.name],
        "absent": absent,
    }


def _format_of(file: pathlib.Path) -> str:
    name = table.format_of(file)
    assert name is not None  # `exported` has checked it
    return name


def _zipped(file: pathlib.Path) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)  # the same page from the same files


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m browser.build", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--checkpoint", required=True, help="a run's folder, or an exported .tflite file"
    )
    parser.add_argument("--out", default="", help="the page; by default beside the .tflite file")
    given = parser.parse_args(arguments)
    try:
        build(given.checkpoint, given.out, print)
    except (UserError, OSError) as error:
        return entry.tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
