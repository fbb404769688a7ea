"""Trains, evaluates, predicts and exports: `python launch.py --config configs/scjd.py`.

  --mode train   data, teacher, student without distillation, student, evaluation and table. This is
                 the default.
  --mode eval    scores of one checkpoint: --checkpoint RUN/student, or a PyTorch file together with
                 --config. If its records have moved, add --records DIR. --artifact FILE scores a
                 file that --mode export wrote.
  --mode predict poses of your own keypoints, videos or pictures: --checkpoint RUN/student with
                 --keypoints FILE, --video FILE or --pictures FOLDER, and --out FOLDER.
  --mode export  writes a checkpoint as files that run elsewhere, and checks each: --format
                 stablehlo,saved_model,onnx,litert,litert_int8_dynamic --out DIR.

A run that was interrupted goes on when the same command is given again.

Exit codes:
  0    done
  1    another process of the run is gone
  2    a mistake, a device that is not there or a full disk, in one sentence
  75   stopped by SIGTERM or a closed terminal, with all work saved: run the same command again
  130  stopped by Ctrl-C, with all work saved: run the same command again
"""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C during the imports ends the process in silence, because nothing has begun.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from kdpose_jax import program  # noqa: E402


def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit code."""
    return program.main(argv, converters="data_prep.convert", usage=str(__doc__))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
