"""Brings a network into the page by LiteRT.js, which npm installs: any lifter that can be exported.

Its JavaScript is litert.js, and esbuild bundles it with the package.
"""

import gzip
import pathlib
import shutil
import subprocess

from browser.ready import Ready, Show, refuse_pictures
from kdpose_jax import files
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import existing, weights
from kdpose_jax.export import pipeline
from kdpose_jax.export.formats import table
from kdpose_jax.predict import artifacts, loading
from kdpose_jax.predict.description import Description, describe
from kdpose_jax.untrusted.documents import load_json

HERE = pathlib.Path(__file__).parent
MODULES = HERE / "node_modules"
RUNTIME = MODULES / "@litertjs" / "core"
# This build needs no relaxed SIMD, which not every browser has, and no headers of a server, as
# threads do.
GLUE, WASM = (RUNTIME / "wasm" / f"litert_wasm_compat_internal.{kind}" for kind in ("js", "wasm"))
FORMAT = "litert"
TAKEN = (FORMAT, "litert_float16", "litert_int8_dynamic")  # those that were tried in a browser
LONGEST_S = 300  # for npm
# The script comes with the WebAssembly from the page itself, as a blob.
ALLOWS = ("'wasm-unsafe-eval'", "blob:")


def ready(checkpoint: str, show: Show) -> Ready:
    """Makes a network ready for the page.

    Args:
      checkpoint: a run's folder, one of its steps, or an exported .tflite file.
      show: prints one line.

    Raises:
      UserError: npm is missing or fails, the network is not a lifter, or the user made any other
        mistake.
    """
    path = checked(checkpoint)
    install(show)
    file, about = exported(path, show)
    name = table.format_of(file)
    assert name is not None  # `checked` has seen to it
    packages = load_json(HERE / "package.json")["dependencies"]
    return Ready(
        about=about,
        place=file.with_suffix(".html"),
        facts=f"{file.stat().st_size / 1000:,.0f} kB, {table.FORMATS[name].words}",
        words=(
            f"The network runs by LiteRT.js {packages['@litertjs/core']} (Apache-2.0), in "
            "WebAssembly."
        ),
        script=script(),
        sizes={"shape": [1, *about.input_shape]},
        bytes={"network": file.read_bytes(), "glue": _zipped(GLUE), "wasm": _zipped(WASM)},
        allows=ALLOWS,
    )


def install(show: Show) -> None:
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
        raise UserError(
            "LiteRT.js needs npm, which is not installed: install Node.js 20 or later, or use "
            "--runtime plain for a small MixSTE."
        )
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


def checked(checkpoint: str) -> str:
    """Checks what the user named before anything is installed or exported.

    Returns:
      Its path.

    Raises:
      UserError: it is not a lifter's, is not there, or is a file that the page does not run.
    """
    path = files.absolute_or_empty(checkpoint)
    if artifacts.is_artifact(path):
        file = pathlib.Path(path)
        if table.format_of(file) not in TAKEN:
            raise UserError(
                f"--checkpoint is '{checkpoint}', and the page runs {', '.join(TAKEN)}: export one "
                "of them, or name the network's run."
            )
        if not file.exists():
            raise UserError(f"There is no '{file}': export a network with --mode export first.")
        _, about = artifacts.read_sidecar(artifacts.sidecar_of(file))
    elif weights.is_weight_file(path):
        raise UserError(
            f"--checkpoint is the file of weights '{checkpoint}': export it with --mode export "
            f"--format {FORMAT} and its --config, and name the .tflite file."
        )
    else:
        run, _ = existing.find_run(loading.accessible(path), None)
        about = describe(run, "")
    refuse_pictures(about, checkpoint)
    return path


def exported(path: str, show: Show) -> tuple[pathlib.Path, Description]:
    """Finds the LiteRT file of a network that `checked` let through. A run is exported first.

    Raises:
      UserError: as in `export_and_report`.
    """
    if artifacts.is_artifact(path):
        file = pathlib.Path(path)
    else:
        [file] = pipeline.export_and_report(None, path, FORMAT, "", "", show)
    return file, artifacts.read_sidecar(artifacts.sidecar_of(file))[1]


def script() -> str:
    """Bundles litert.js with the package."""
    esbuild = MODULES / ".bin" / "esbuild"
    command = [str(esbuild), "litert.js", "--bundle", "--minify", "--format=iife"]
    return _call([*command, "--global-name=runtime"], "esbuild")


def _zipped(file: pathlib.Path) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)  # the same page from the same files
