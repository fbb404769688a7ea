"""SCJD's student at several sizes, without and with distillation.

python -m kdpose_jax.study.runner configs/studies/student_size.py
    demo: generated motion.
python -m kdpose_jax.study.runner configs/studies/student_size.py:mocap --config.data.records=DIR
    Or h36m, 3dhp. teacher=RUN takes a teacher that exists.
"""

from configs.studies.parts import lifting
from kdpose_jax.study.declare import Row, Run, Study


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/student_size.py[:data[,teacher=RUN]]`."""
    data, teacher = lifting.parse(text)
    sizes = {f"w{width}d{depth}": (width, depth) for width, depth in lifting.SIZES[data]}
    owner = list(sizes)[1]
    fields = lifting.shared(owner, teacher)

    def run(name: str, width: int, depth: int) -> Run:
        # As in configs/scjd.py.
        dropped = (
            {"student.network.drop_path": 0.1 if width > 128 else 0.05}
            if data in ("h36m", "3dhp")
            else {}
        )
        return Run(
            name, lifting.scjd(data), {**fields, **lifting.size("student", width, depth), **dropped}
        )

    runs = {name: run(name, width, depth) for name, (width, depth) in sizes.items()}
    rows = [Row("teacher", owner, "teacher", seeds=1)]
    for name, (width, depth) in sizes.items():
        rows += [
            Row(f"width {width}, depth {depth}", name, "baseline"),
            Row(f"width {width}, depth {depth}, SCJD", name),
        ]
    return Study(
        name=f"student_size_{data}",
        title="SCJD's student at several sizes",
        runs=(runs.pop(owner), *runs.values()),
        rows=tuple(rows),
        columns=lifting.COLUMNS[data],
        unit="frame",
        reference=rows[4].title,  # the config's own
        published=lifting.PUBLISHED[data],
    )
