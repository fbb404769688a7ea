"""One student from teachers of several sizes, and from none.

python -m kdpose_jax.study.runner configs/studies/teacher_size.py
    demo: generated motion.
python -m kdpose_jax.study.runner configs/studies/teacher_size.py:mocap --config.data.records=DIR
    Or h36m, 3dhp.
"""

from configs import blocks
from configs.studies.parts import lifting
from kdpose_jax.study.declare import Of, Row, Run, Study


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/teacher_size.py[:data]`."""
    data, _ = blocks.parse_preset(text, lifting.DATA, {})
    sizes = {f"w{width}d{depth}": (width, depth) for width, depth in lifting.TEACHERS[data]}
    owner, *others = sizes

    def run(name: str, baseline: bool) -> Run:
        fields = {
            "data.records": Of(owner, "data"),
            "teacher.checkpoint": Of(name, "teacher"),
            "baseline": baseline,
        }
        return Run(name, lifting.scjd(data), {**fields, **lifting.size("teacher", *sizes[name])})

    rows = [Row("student, no teacher", owner, "baseline")]
    for name, (width, depth) in sizes.items():
        rows.append(Row(f"teacher of width {width}, depth {depth}", name, "teacher", seeds=1))
        rows.append(Row(f"student taught by width {width}, depth {depth}", name))
    return Study(
        name=f"teacher_size_{data}",
        title="SCJD from teachers of several sizes",
        runs=(run(owner, True), *(run(name, False) for name in others)),
        rows=tuple(rows),
        columns=lifting.COLUMNS[data],
        unit="frame",
        reference="student, no teacher",
        published=lifting.PUBLISHED[data],
    )
