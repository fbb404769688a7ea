"""Configures both methods at sizes that train in seconds, for `benchmarks/chaos.py`.

Every stage and every kind of file is included.

  python launch.py --config benchmarks/chaos_config.py:scjd      or :cdkd
"""

from ml_collections import ConfigDict

from configs import cdkd, scjd
from kdpose_jax.errors import require


def get_config(text: str = "scjd") -> ConfigDict:
    """Makes a method's demo small; its data are generated into the work directory."""
    require("the method", text, ("scjd", "cdkd"))
    config = {"scjd": small_scjd, "cdkd": small_cdkd}[text]()
    config.name = f"chaos_{text}"
    config.gradient_report = True
    for stage in (config.teacher, config.student):
        stage.train.update(
            {"log_every_steps": 3, "save_every_steps": 10, "log_examples": True, "ema_decay": 0.9}
        )
    config.eval.latency_runs, config.eval.latency_warmup, config.eval.latency_batches = 1, 1, (1,)
    return config


def small_scjd() -> ConfigDict:
    """Uses windows of 9 frames, and networks with one or two layers."""
    config = scjd.get_config("demo")
    settings = {
        "seed": 0,
        "train_subjects": 1,
        "test_subjects": 1,
        "takes": 1,
        "frames": 60,
        "workers": 2,
    }
    config.data.converter.settings = ConfigDict(settings)
    config.data.frames = 9
    for stage, depth in ((config.teacher, 2), (config.student, 1)):
        stage.network.update({"width": 8, "depth": depth, "heads": 2, "drop_path": 0.1})
        stage.train.update({"batch": 8, "epochs": 1.2, "evaluate_every_epochs": 0.25})
    config.eval.batch = 16
    return config


def small_cdkd() -> ConfigDict:
    """Uses pictures of 64 pixels for the teacher and 32 for the student."""
    config = cdkd.get_config("demo")
    settings = {
        "seed": 0,
        "train_pictures": 24,
        "val_pictures": 6,
        "test_pictures": 6,
        "picture_size": 128,
        "workers": 2,
    }
    config.data.converter.settings = ConfigDict(settings)
    config.teacher.input.size = 64
    for stage in (config.teacher, config.student):
        stage.network.update({"width": 4, "stem_width": 4, "modules": (1,)})
        stage.train.update({"batch": 2, "epochs": 3.0, "evaluate_every_epochs": 0.75})
    config.eval.batch = 2
    return config
