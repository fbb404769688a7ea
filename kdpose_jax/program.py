"""Runs the program behind `python launch.py` and the commands of `kdpose`.

It parses the flags, starts the processes, and turns whatever ends a run into an exit code.
"""

import importlib
import importlib.util
import os
import re
import sys
import threading
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import flags, logging  # noqa: E402
from etils import epath  # noqa: E402
from ml_collections import ConfigDict, config_flags  # noqa: E402

from kdpose_jax import entry, files  # noqa: E402
from kdpose_jax.errors import StalledError, UserError  # noqa: E402
from kdpose_jax.experiment import checks, command_line  # noqa: E402
from kdpose_jax.folders import WorkFolder  # noqa: E402
from kdpose_jax.predict import flags as predict_flags  # noqa: E402
from kdpose_jax.train import devices, preemption  # noqa: E402

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Experiment: a file of configs/ or its name, with a preset and options behind a colon, such as "
    "scjd:h36m,frames=81. --config.FIELD=VALUE sets one of its fields",
)
MODES = ["train", "eval", "predict", "export"]
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do")
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Where everything is written: a folder, or gs://BUCKET/FOLDER (default: runs/NAME of the "
    "config)",
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "For --mode eval, predict and export: a run folder, a PyTorch file, or (predict) an exported "
    "file",
)
ARTIFACT = flags.DEFINE_string(
    "artifact", None, "For --mode eval: a file that --mode export wrote, in place of --checkpoint"
)
RECORDS = flags.DEFINE_string(
    "records",
    "",
    "For --mode eval and export: the records to score on (default: those it was trained with)",
)
FORMAT = flags.DEFINE_string(
    "format",
    "",
    "For --mode export: stablehlo (default), saved_model, onnx, litert, litert_float16, "
    "litert_int8_dynamic, litert_int8, or several with commas. For --mode predict: the format of "
    "the file, if its content does not show it",
)
OUT = flags.DEFINE_string(
    "out",
    "",
    "For --mode predict: a folder (default: poses/), or a file whose ending says the format. For "
    "--mode export: the folder to write into (default: export/ in the network's)",
)
DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "Start jax.distributed: auto does so on Cloud TPU VMs and where KDPOSE_PROCESSES is set",
)


# absl lists these as the defaults of flags that have none.
NO_DEFAULT = re.compile(r"\n\s*\(default: '(None)?'\)")
SECONDS_UNTIL_HINT = 60
SECONDS_UNTIL_ALONE = 60  # how long an exiting process waits for the others, which jax then ends


def parse_flags(argv: list[str]) -> tuple[list[str], ConfigDict | None]:
    """Parses the command line and loads the config. A mistake in them becomes one sentence.

    Returns:
      The words that are not flags, and the config or None if none is named.
    """
    argv, named = command_line.with_config(argv)
    command_line.check_words(argv, command_line.load(named) if named else None, list(flags.FLAGS))
    try:
        words, config = flags.FLAGS(argv)[1:], CONFIG.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        said = " ".join(str(error.args[0] if error.args else error).split())
        raise UserError(
            f"The command line cannot be used: {said} (fields: see the --config file; flags: "
            f"--help)."
        ) from error
    if config is not None:
        command_line.check_numbers(config)
        checks.check_values(config)
    return words, config


def help_text(usage: str) -> str:
    """Returns what `--help` prints: how the program is used, and its flags."""
    groups = {
        "Flags": __name__,
        "Flags of --mode predict (some go with --mode export --poses too)": predict_flags.__name__,
    }
    text = usage.strip()
    for title, module in groups.items():
        listed = flags.FLAGS.module_help(module).partition(":\n")[2]  # without the module's name
        text += f"\n\n{title}:\n{NO_DEFAULT.sub('', listed)}"
    return text


def import_jax() -> None:
    """Imports jax, which then reads its environment variables.

    Raises:
      UserError: jax is not installed, or does not know the value of a variable.
    """
    try:
        import jax  # noqa: F401
    except Exception as error:
        given = ", ".join(
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith("JAX_")
        )
        remedy = (
            f"correct the variables of the environment that it reads ({given})"
            if given
            else "install requirements.txt again"
        )
        raise UserError(
            f"jax cannot be imported ({' '.join(str(error).split())[:300]}): {remedy}."
        ) from error


def refuse_fields_alone(argv: list[str]) -> None:
    """Refuses config fields without a config. The sentence guesses what the user wanted.

    Raises:
      UserError: there is such a field.
    """
    names = [word.lstrip("-").partition("=")[0] for word in argv[1:] if word.startswith("-")]
    alone = [name for name in names if name.startswith("config.")]
    if alone and "config" not in names:
        raise UserError(
            f"--{alone[0]} needs --config FILE in front of it; the records of a checkpoint are "
            "named with --records DIR."
        )


def start_distributed() -> None:
    """Connects the processes. It must come before anything touches a device.

    Cloud TPU VMs, Slurm and Open MPI tell jax which processes there are. Elsewhere the variables
    KDPOSE_COORDINATOR=HOST:PORT (a port of process 0), KDPOSE_PROCESSES and KDPOSE_PROCESS do. Set
    KDPOSE_COORDINATOR alone if a firewall closes the port that jax would pick.

    Raises:
      UserError: the variables are invalid, or the processes did not find each other.
    """
    has_tpu = any(os.path.exists(device) for device in ("/dev/accel0", "/dev/vfio/0"))
    on_cloud_tpu = has_tpu and importlib.util.find_spec("libtpu") is not None
    processes, process = (
        os.environ[name] if name in os.environ else None
        for name in ("KDPOSE_PROCESSES", "KDPOSE_PROCESS")
    )
    address = os.environ["KDPOSE_COORDINATOR"] if "KDPOSE_COORDINATOR" in os.environ else None
    if DISTRIBUTED.value == "off" or (
        DISTRIBUTED.value == "auto" and not on_cloud_tpu and processes is None
    ):
        return
    count: int | None = None
    number: int | None = None
    if processes is not None or process is not None:
        texts = [value for value in (processes, process) if value is not None and value.isdecimal()]
        if address is None or len(texts) < 2 or not int(texts[1]) < int(texts[0]):
            raise UserError(
                f"KDPOSE_COORDINATOR is '{address}', KDPOSE_PROCESSES '{processes}' and "
                f"KDPOSE_PROCESS '{process}': set all three, to "
                "HOST:PORT of process 0, the number of processes and this one's number from 0."
            )
        count, number = int(texts[0]), int(texts[1])
    import_jax()
    import jax

    hint = threading.Timer(
        SECONDS_UNTIL_HINT,
        lambda: print(
            f"still waiting for the other processes after {SECONDS_UNTIL_HINT} s: each must run "
            "this command; where a firewall closes the coordinator's port, set "
            "KDPOSE_COORDINATOR=HOST:8476 for all",
            file=sys.stderr,
            flush=True,
        ),
    )
    hint.daemon = True
    hint.start()
    try:
        jax.distributed.initialize(
            address, count, number, shutdown_timeout_seconds=SECONDS_UNTIL_ALONE
        )
    except Exception as error:  # clusters that jax recognises each raise errors of their own
        raise UserError(
            f"The processes could not be connected: {' '.join(str(error).split())} (see "
            f"docs/running/pods.md)."
        ) from error
    finally:
        hint.cancel()


def run(argv: list[str], converters: str, stop: preemption.Stop) -> None:
    """Checks the command line and runs the mode.

    Args:
      argv: the command line.
      converters: names the module that makes records (`contracts.Converters`).
      stop: whether the program was told to stop.

    Raises:
      UserError: any mistake of the user's, as one sentence.
    """
    refuse_fields_alone(argv)
    words, config = parse_flags(argv)
    if words:
        raise UserError(stray(words[0]))
    check_flags(config)
    logging.set_verbosity(logging.ERROR)  # Orbax warns at every checkpoint that has no scores
    # Orbax logs the errors that it raises. They are told in a sentence later.
    logging.get_absl_logger().addFilter(without_traceback)
    workdir = files.absolute(WORKDIR.value) if WORKDIR.value else None
    if MODE.value == "train":
        assert config is not None  # refused above
        workdir = workdir or epath.Path("runs").resolve() / config.name
        check_source(config, workdir, converters)
    devices.check_environment()
    start_distributed()
    import_jax()
    if MODE.value in ("predict", "export"):
        use(config, stop)
        return
    module = importlib.import_module(converters)
    if MODE.value == "train":
        from kdpose_jax.experiment import pipeline

        pipeline.train_and_report(config, workdir, module, show, stop)
    elif ARTIFACT.value:
        from kdpose_jax.export.scoring import evaluate_artifact

        evaluate_artifact(config, ARTIFACT.value, RECORDS.value, workdir, module, show, stop)
    else:
        from kdpose_jax.experiment.scoring import evaluate_and_report

        assert CHECKPOINT.value is not None  # refused above
        evaluate_and_report(config, CHECKPOINT.value, RECORDS.value, workdir, module, show, stop)


def use(config: ConfigDict | None, stop: preemption.Stop) -> None:
    """Runs the modes that use a trained network.

    Raises:
      UserError: any mistake of the user's.
    """
    checkpoint = CHECKPOINT.value or ""
    asked = predict_flags.request(checkpoint, OUT.value, FORMAT.value)
    if MODE.value == "predict":
        from kdpose_jax.predict.command import predict_and_report

        predict_and_report(asked, config, show, stop)
    elif predict_flags.POSES.value:
        from kdpose_jax.predict.command import convert_poses

        convert_poses(predict_flags.POSES.value, FORMAT.value, asked, show)
    else:
        from kdpose_jax.export.pipeline import export_and_report

        formats = FORMAT.value or "stablehlo"
        export_and_report(config, checkpoint, formats, OUT.value, RECORDS.value, show)


def stray(word: str) -> str:
    """Returns the sentence about a word that belongs to no flag."""
    if word in MODES:
        remedy = f"write --mode {word}"
    elif re.fullmatch(r"[a-z]\w*(\.\w+)*(=.*)?", word):
        remedy = f"write --config.{word} for a config field, or remove it (see --help)"
    else:
        remedy = "write the flag that it belongs to in front of it, such as --checkpoint (--help)"
    return f"'{word}' is not a flag: {remedy}."


def check_flags(config: ConfigDict | None) -> None:
    """Checks that the flags fit the mode.

    Raises:
      UserError: one is missing, or goes with another mode.
    """
    mode = MODE.value
    if mode == "train" and config is None:
        raise UserError("--config is missing: try --config scjd.")
    if mode == "eval" and CHECKPOINT.value and ARTIFACT.value:
        raise UserError("--checkpoint and --artifact name two networks: give one of them.")
    predict_flags.check(mode)
    networkless = ARTIFACT.value if mode == "eval" else predict_flags.POSES.value
    if mode != "train" and not (CHECKPOINT.value or networkless):
        raise UserError(
            f"--mode {mode} needs --checkpoint, a run folder such as runs/scjd_demo/student."
        )
    if mode == "train" and CHECKPOINT.value:
        raise UserError(
            "--checkpoint goes with --mode eval, predict and export; a teacher is given with "
            "--config.teacher.checkpoint=PATH."
        )
    if mode == "train" and RECORDS.value:
        raise UserError(
            "--records goes with --mode eval and export; training takes them as "
            "--config.data.records=DIR."
        )
    if mode in ("predict", "export") and WORKDIR.value:
        raise UserError("--workdir goes with --mode train and eval: name a folder with --out DIR.")
    if mode == "predict" and RECORDS.value:
        raise UserError("--records goes with --mode eval and export: leave it out.")
    written = ("predict", "export")
    for flag, modes in ((ARTIFACT, ("eval",)), (FORMAT, written), (OUT, written)):
        if flag.present and mode not in modes:
            raise UserError(f"--{flag.name} goes with --mode {' and '.join(modes)}: leave it out.")


def check_source(config: ConfigDict, workdir: epath.Path, converters: str) -> None:
    """Checks before jax is imported that the raw files are there.

    A run that is done does not need them.

    Raises:
      UserError: they are not there, or a setting of their converter is out of its range.
    """
    from kdpose_jax.experiment import data  # not at the top, as it takes a second

    try:
        data.check_source(config, importlib.import_module(converters))
    except UserError:
        if not WorkFolder(workdir).results.exists():
            raise


def without_traceback(record: Any) -> bool:
    """Filters log records: lets all of them through, without their tracebacks."""
    record.exc_info = None
    return True


def show(line: str) -> None:
    """Prints one line at once, on the first process only.

    If the terminal or the reader is gone, the run goes on.
    """
    # Not at the top: its first use starts the devices, and mistakes are found before that.
    import jax

    if jax.process_index() == 0:
        entry.say(line, sys.stdout)


def main(argv: list[str], *, converters: str, usage: str) -> int:
    """Runs the program.

    Args:
      argv: the command line.
      converters: names the module that makes records (`contracts.Converters`).
      usage: what `--help` prints above the flags.

    Returns:
      The exit code, as launch.py lists them.
    """
    if any(word in ("--help", "-help", "-h") for word in argv[1:]):
        entry.say(help_text(usage), sys.stdout)
        return 0
    with preemption.watching() as stop:
        try:
            run(argv, converters, stop)
        except preemption.Stopped as stopped:
            entry.say(str(stopped), sys.stderr)
            return stopped.code
        except StalledError as error:
            # Hanging threads would keep the interpreter from ending.
            preemption.leave(f"error: {error}", entry.MISTAKE)
        except UserError as error:
            return entry.tell(error)
        except Exception as error:
            from kdpose_jax import processes  # not at the top, as it needs jax

            if message := processes.lost_process(error):
                # jax would wait a minute for the process that is gone.
                preemption.leave(f"error: {message}", entry.GONE)
            return entry.tell(error)
    return 0
