"""The console command `kdpose`: train, eval, predict, export, convert and study.

It finds the presets that the package brings.

  kdpose train --config scjd[:PRESET,OPTION=VALUE] [--workdir DIR] [--config.FIELD=VALUE ...]
  kdpose eval --checkpoint RUN/student [--records DIR] [--workdir DIR]
  kdpose predict --checkpoint RUN/student --keypoints FILE [--size 1920x1080] [--to npz,html,bvh]
  kdpose export --checkpoint RUN/student [--format stablehlo,onnx,litert_int8_dynamic] [--out DIR]
  kdpose convert human36m --source DIR --out DIR
  kdpose study scjd_ablation [--jobs 2] [--config.FIELD=VALUE ...]

`kdpose train`, `eval`, `predict` and `export` take the flags of launch.py, which
`kdpose COMMAND --help` lists.
"""

import importlib
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C during the imports ends the process in silence, because nothing has begun.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from kdpose_jax import __version__, entry, presets  # noqa: E402
from kdpose_jax.errors import UserError  # noqa: E402

COMMANDS = ("train", "eval", "predict", "export", "convert", "study")
CONVERTERS = "data_prep.convert"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] in (["--help"], ["-h"], ["help"]):
        print(__doc__)
        return 0
    if words[:1] == ["--version"]:
        print(f"kdpose_jax {__version__}")
        return 0
    if not words or words[0] not in COMMANDS:
        given = f"'{words[0]}' is not a command of kdpose" if words else "kdpose needs a command"
        return entry.tell(UserError(f"{given}: use {', '.join(COMMANDS)}, or --help."))
    presets.bring_in()
    command, *rest = words
    if command == "convert":
        return importlib.import_module(CONVERTERS).main(rest)
    if command == "study":
        from kdpose_jax.study import runner  # not at the top: it imports matplotlib

        return runner.main(rest)
    from kdpose_jax import program  # not at the top: it defines flags

    words = [f"kdpose {command}", f"--mode={command}", *rest]
    return program.main(words, converters=CONVERTERS, usage=str(__doc__))


if __name__ == "__main__":
    sys.exit(main())
