"""How sparse SCJD's keyframes may be, and how the poses between them are made.

python -m kdpose_jax.study.runner configs/studies/sampling.py
    demo: generated motion.
python -m kdpose_jax.study.runner configs/studies/sampling.py:mocap --config.data.records=DIR
    Or h36m. teacher=RUN takes a teacher that exists.
"""

from configs.studies.parts import lifting
from kdpose_jax.study.declare import Row, Run, Study

DATA = ("demo", "mocap", "h36m")
# How the frames between keyframes are made. SHIFTED runs shift the keyframes' grid in training
# (phase augmentation), and UNSHIFTED ones do not.
SHIFTED = {"linear_feat": "embeddings interpolated", "learned": "learned filter"}
UNSHIFTED = {"linear_pose": "unshifted", "cross_attn": "unshifted, cross-attention"}
# These keyframes do not lie on a grid, so they can neither be shifted nor scored alone.
CORRELATED = {
    "student.input.selection": "correlated",
    "student.input.phase_augmentation": False,
    "eval.settings.keyframe_stride": 1,
}


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/sampling.py[:data[,teacher=RUN]]`."""
    data, teacher = lifting.parse(text, DATA)
    shared = lifting.shared("r3", teacher)

    def run(name: str, stride: int, **further: str | int | bool) -> Run:
        return lifting.alone(name, data, shared, **{"student.input.stride": stride, **further})

    between = {}
    for stride in (3, 9):
        for kind, title in {**SHIFTED, **UNSHIFTED}.items():
            fields = {
                "student.input.upsampling": kind,
                "student.input.phase_augmentation": kind in SHIFTED,
            }
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
            Row("r = 1", "r1"),
            Row("r = 3", "r3"),
            Row("r = 9", "r9"),
            # A grid can be shifted only if the stride divides the window. 5 does not.
            Row("r = 5, unshifted", "r5"),
            Row("r = 3, unshifted, of every 3 the most typical", "r3_correlated"),
            *(Row(title, one.name) for title, one in between.items()),
        ),
        columns=lifting.COLUMNS[data],
        unit="frame",
        reference="r = 3",
        note="Unshifted: the keyframes are the same of every window in training; otherwise their "
        "grid is shifted (phase augmentation).",
        published=lifting.PUBLISHED[data],
    )
