"""Other ways to distil, each alone, on the teacher and student of configs/scjd.py.

Data, networks and recipes are those of configs/scjd.py.

  python launch.py --config configs/baselines.py:demo,kd=output
      Regression to the teacher's poses (Hinton et al. 2015).
  python launch.py --config configs/baselines.py:demo,kd=hints
      FitNets hints (Romero et al. 2015).
  python launch.py --config configs/baselines.py:demo,kd=attention
      Attention transfer (Zagoruyko and Komodakis 2017).
  python launch.py --config configs/baselines.py:demo,kd=relations
      Relational distillation (Park et al. 2019).

The presets demo, mocap, h36m and 3dhp, their options, hardware and hours are as in configs/scjd.py.
Give each run its own --workdir. Give the later runs the first one's teacher with
--config.teacher.checkpoint=DIR/teacher. Terms can be joined: --config.distill.weights.hints=1.0.
"""

from ml_collections import ConfigDict

from configs import scjd
from kdpose_jax.errors import require

# Ours, chosen by the size of gradients and not by results. We measured the demo's student after 86
# steps, with all weights 1: output 5.9, hints 0.20 and relations 0.12 beside the task's 5.0, and
# attention 0.22 beside the task's 7.2. With the weights below, output pulls a little more than the
# task, and the others pull about half as much.
WEIGHTS = {"output": 1.0, "hints": 10.0, "attention": 15.0, "relations": 20.0}


def get_config(text: str = "") -> ConfigDict:
    """Builds the experiment of `configs/baselines.py[:preset[,option=value...]]`."""
    preset, chosen = scjd.parse(text, {"kd": "output"})
    kd = chosen.pop("kd")
    require(f"option kd of preset {preset}", kd, WEIGHTS)
    config = scjd.experiment("baselines", preset, chosen)
    config.method = "baselines"
    del config.teacher.data  # the teacher's features are read, in the student's frames
    config.distill = ConfigDict(
        {
            "weights": ConfigDict(
                {name: weight if name == kd else 0.0 for name, weight in WEIGHTS.items()}
            ),
            "hints": ConfigDict(
                {"layer": -1}
            ),  # student layer, 0-based; -1: the middle one (FitNets)
            # The matrices of the spatial blocks. The paper's `activations` are flat behind MixSTE's
            # norms and teach nothing.
            "attention": ConfigDict({"maps": "matrices"}),
            "relations": ConfigDict(
                {"angle": 2.0}
            ),  # weight of angles relative to distances (Park et al.)
        }
    )
    return config
