"""Builds one offline page that runs a lifter in the browser.

  python -m browser.build --checkpoint RUN/student [--runtime plain|litert] [--out FILE.html]

`--checkpoint` names a run, or a .tflite file that was exported before. `--runtime plain` is plain
JavaScript, for MixSTE. `--runtime litert` is LiteRT.js: a run is exported first, and npm must be
installed. Without the flag, a small MixSTE runs in plain JavaScript. See docs/use/browser.md.

Exit codes: 0 done; 2 a mistake, in one sentence.
"""

import argparse
import pathlib
import string
import sys
from typing import Any

from browser import litert, plain
from browser.ready import Ready, Show
from browser.sample import sample_for
from kdpose_jax import entry, files
from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import layouts
from kdpose_jax.page import document
from kdpose_jax.predict.description import Description

HERE = pathlib.Path(__file__).parent
SCRIPTS = ("keypoints.js", "windows.js", "demo.js")  # in this order, after the runtime
PLAIN, LITERT = RUNTIMES = ("plain", "litert")


def build(checkpoint: str, runtime: str, out: str, show: Show) -> pathlib.Path:
    """Builds the page.

    Args:
      checkpoint: a run's folder, one of its steps, or an exported .tflite file.
      runtime: one of `RUNTIMES`; "" takes the one that suits the network.
      out: the page; "" puts it beside the network's exported files.
      show: prints one line.

    Returns:
      The page.

    Raises:
      UserError: the runtime cannot run the network, it is not a lifter, or the user made any other
        mistake.
    """
    ready = made_ready(checkpoint, runtime, show)
    page = pathlib.Path(str(files.absolute(out))) if out else ready.place
    content = page_of(ready)
    if not out:
        page.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(page, content)
    show(f"{page}: {len(content) / 1e6:.1f} MB, opens in a browser, also without a server")
    return page


def made_ready(checkpoint: str, runtime: str, show: Show) -> Ready:
    """Makes a network ready for the page; arguments and errors are those of `build`.

    Without a runtime, MixSTE of up to `plain.SMALL` parameters runs in plain JavaScript.
    """
    if runtime == LITERT or (not runtime and not plain.is_served(checkpoint)):
        return litert.ready(checkpoint, show)
    network = plain.restore(checkpoint, show)
    if not runtime:
        small = network.parameters <= plain.SMALL
        show(
            f"runtime: {PLAIN if small else LITERT}, as {network.parameters:,} parameters are "
            f"{'at most' if small else 'more than'} {plain.SMALL:,} (--runtime decides otherwise)"
        )
        if not small:
            return litert.ready(checkpoint, show)
    return plain.ready(network, show)


def page_of(ready: Ready) -> bytes:
    """Makes the page of a network."""
    about = ready.about
    facts = [
        document.text(about.name),
        f"parameters <code>{document.text(about.fingerprint)}</code>",
        document.text(ready.facts),
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
            "Keypoints stay on this machine: the page cannot send anything. "
            f"{document.text(ready.words)}"
        ),
    )
    head = (
        "<h1>2D keypoints to 3D poses, in this page</h1>\n"
        f'<p class="facts">{" &middot; ".join(facts)}</p>\n'
    )
    data = {
        "network": network_of(about),
        "sample": sample_for(about.layout),
        "runtime": ready.parts,
    }
    own = (document.without_comments(document.source(str(HERE / name))) for name in SCRIPTS)
    return document.page(
        f"{about.name}: 2D keypoints to 3D poses",
        head + body,
        data,
        ("player.css", str(HERE / "demo.css")),
        "\n".join([document.player_script(), ready.script, *own]),
        ready.allows,
    )


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
        "keyframe_offset": about.keyframe_offset,
        "keyframe_selection": about.keyframe_selection,
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


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m browser.build", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--checkpoint", required=True, help="a run's folder, or an exported .tflite file"
    )
    parser.add_argument(
        "--runtime",
        default="",
        choices=RUNTIMES,
        help=f"what runs the network; by default plain for MixSTE of up to {plain.SMALL:,} "
        "parameters, else litert",
    )
    parser.add_argument("--out", default="", help="the page; by default in the run's exports")
    given = parser.parse_args(arguments)
    try:
        build(given.checkpoint, given.runtime, given.out, print)
    except (UserError, OSError) as error:
        return entry.tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
