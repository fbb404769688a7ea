"""Other ways to distil, on SCJD's teacher and student: each alone, with the data, networks and
recipes of configs/scjd.py.

  python launch.py --config configs/baselines.py:demo,kd=output     regression to the teacher's
  poses (Hinton et al. 2015) python launch.py --config configs/baselines.py:demo,kd=hints
  FitNets hints (Romero et al. 2015) python launch.py --config
  configs/baselines.py:demo,kd=attention  attention transfer (Zagoruyko and Komodakis 2017) python
  launch.py --config configs/baselines.py:demo,kd=relations  relational distillation (Park et al.
  2019)

Presets demo, mocap, h36m and 3dhp, hardware and hours: as in configs/scjd.py, whose options they
  have beside kd=. Give each its own
--workdir, and the later ones the first one's teacher: --config.teacher.checkpoint=DIR/teacher.
Terms can be joined: --config.distill.weights.hints=1.0.
"""

from ml_collections import ConfigDict

from configs import blocks, scjd

# Ours, by the size of gradients and not by results. After 86 steps of the demo's student those of
# weight 1 were output 5.9, hints 0.20, relations 0.12 beside the task's 5.0, and attention 0.22
# beside 7.2; with these, output is a little above the task, the others about half.
WEIGHTS = {"output": 1.0, "hints": 10.0, "attention": 15.0, "relations": 20.0}


def get_config(text: str = "") -> ConfigDict:
    """The experiment behind `configs/baselines.py[:preset[,option=value...]]`."""
    preset, chosen = scjd.parse(text, {"kd": "output"})
    kd = chosen.pop("kd")
    blocks.require(f"option kd of preset {preset}", kd, tuple(WEIGHTS))
    config = scjd.experiment("baselines", preset, chosen)
    config.method = "baselines"
    config.distill = ConfigDict(
        {
            "weights": ConfigDict(
                {name: weight if name == kd else 0.0 for name, weight in WEIGHTS.items()}
            ),
            "hints": ConfigDict(
                {"layer": -1}
            ),  # of the student, 0-based; -1: the middle one (FitNets)
            # The matrices of the spatial blocks; or `activations`, as in the paper, which behind
            # MixSTE's norms are flat and teach nothing.
            "attention": ConfigDict({"maps": "matrices"}),
            "relations": ConfigDict(
                {"angle": 2.0}
            ),  # weight of angles beside distances (Park et al.)
        }
    )
    return config
