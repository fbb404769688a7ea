"""What stands on the command line: presets and fields of a config."""

import pathlib

from tests.fuzz.reader import Reader


def preset(folder: pathlib.Path) -> Reader:
    from configs import cdkd, scjd

    def read(content: bytes) -> None:
        text = content[1:].decode("utf-8", "replace")
        (scjd if content[:1] == b"s" else cdkd).get_config(text)

    texts = [
        "s",
        "sdemo",
        "sh36m,frames=81,student=S-S,r=9,recipe=parity",
        "smocap,r=3,test=S1+S2",
        "s3dhp,frames=27,pose=annot3",
        "smocap,files=motion",
        "c",
        "cmpii32",
        "ccoco64,mode=paper",
    ]
    words = (
        b"demo",
        b"h36m",
        b"mocap",
        b"3dhp",
        b"files=motion",
        b"pose=",
        b"mpii32",
        b"mpii64",
        b"coco32",
        b"coco64",
        b"frames=",
        b"student=",
        b"teacher=",
        b"recipe=",
        b"test=",
        b",r=",
    )
    return Reader(read, [text.encode() for text in texts], words)


def override(folder: pathlib.Path) -> Reader:
    """One `--config.field=value` of the command line, and the check of the config that it makes."""
    from absl import flags

    from kdpose_jax import program
    from kdpose_jax.experiment import checks

    def read(content: bytes) -> None:
        argument = content.decode("utf-8", "replace")
        try:
            words, config = program.parse_flags(
                ["launch.py", "--config=configs/scjd.py", f"--config.{argument}"]
            )
            checks.check(config)
        finally:
            flags.FLAGS.unparse_flags()

    seeds = [
        "seed=3",
        "student.train.batch=4",
        "eval.latency_batches=(1,2)",
        "distill.layer_map=(1,)",
        "student.optim.schedule=steps",
        "baseline=False",
        "eval.settings.windows=exact",
        "student.network.width=8",
        "eval.protocol=pose3d",
        "teacher.optim.learning_rate=1e-3",
        "method=supervised",
    ]
    words = (
        b"student.",
        b"teacher.",
        b"eval.",
        b"train.",
        b"optim.",
        b"data.",
        b"latency_batches=",
        b"drop_epochs=",
        b"nan",
        b"inf",
        b"None",
        b"True",
    )
    return Reader(read, [seed.encode() for seed in seeds], words)
