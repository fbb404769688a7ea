"""How sparse SCJD's keyframes may be, and how the poses between them are made.

  python -m kdpose_jax.report.study configs/studies/sampling.py                                      demo: generated motion
  python -m kdpose_jax.report.study configs/studies/sampling.py:mocap --config.data.records=DIR      or h36m; teacher=RUN
"""

from configs.studies.parts import lifting, published
from kdpose_jax.report.comparison import Row, Run, Study

# How the frames between are made, with and without shifts of the keyframes' grid in training (phase augmentation).
SHIFTED = {"linear_feat": "embeddings interpolated", "learned": "learned filter"}
UNSHIFTED = {"linear_pose": "grid not shifted", "cross_attn": "grid not shifted, cross-attention"}
# Keyframes that lie on no grid can neither be shifted nor scored alone.
CORRELATED = {"student.input.selection": "correlated", "student.input.phase_augmentation": False, "eval.settings.keyframe_stride": 1}


def get_study(text: str = "") -> Study:
    """The study behind `configs/studies/sampling.py[:data[,teacher=RUN]]`."""
    data, teacher = lifting.parse(text)
    shared = lifting.shared("r3", teacher)

    def run(name: str, stride: int, **further: str | int | bool) -> Run:
        return lifting.alone(name, data, shared, **{"student.input.stride": stride, **further})

    between = {}
    for stride in (3, 9):
        for kind, title in {**SHIFTED, **UNSHIFTED}.items():
            fields = {"student.input.upsampling": kind, "student.input.phase_augmentation": kind in SHIFTED}
            between[f"r = {stride}, {title}"] = run(f"r{stride}_{kind}", stride, **fields)
    return Study(
        name=f"sampling_{data}",
        title="SCJD's keyframes: one of r frames, and how the others are made",
        runs=(
            run("r3", 3),
            *(run(f"r{stride}", stride) for stride in (1, 5, 9)),
            run("r3_correlated", 3, **CORRELATED),
            *between.values(),
        ),
        rows=(
            Row("teacher", "r3", "teacher", seeds=1),
            *(Row(f"r = {stride}", f"r{stride}") for stride in (1, 3, 5, 9)),
            Row("r = 3, chosen by 2D motion", "r3_correlated"),
            *(Row(title, one.name) for title, one in between.items()),
        ),
        columns=lifting.COLUMNS,
        unit="frame",
        reference="r = 3",
        published=(published.HUMAN36M,),
    )
