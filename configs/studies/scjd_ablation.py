"""What each part of SCJD does.

The students read every frame or keyframes, and learn without distillation, from each term alone, or
from all terms.

  python -m kdpose_jax.study.runner configs/studies/scjd_ablation.py
      demo: generated motion.
  python -m kdpose_jax.study.runner configs/studies/scjd_ablation.py:mocap --config.data.records=DIR
      Or h36m, 3dhp. teacher=RUN takes a teacher that exists.
"""

from configs.studies.parts import lifting
from kdpose_jax.study.declare import Row, Run, Study

TERMS = ("embedding", "attention", "temporal")


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/scjd_ablation.py[:data[,teacher=RUN]]`."""
    data, teacher = lifting.parse(text)
    fields = lifting.shared("scjd", teacher)

    def only(*terms: str) -> dict[str, float]:
        return {f"distill.weights.{other}": 0.0 for other in TERMS if other not in terms}

    return Study(
        name=f"scjd_ablation_{data}",
        title="What each part of SCJD does",
        runs=(
            Run("scjd", lifting.scjd(data), fields),
            lifting.alone("dense", data, fields, **only(), **{"student.input.stride": 1}),
            *(lifting.alone(term, data, fields, **only(term)) for term in TERMS),
        ),
        rows=(
            Row("teacher", "scjd", "teacher", seeds=1),
            Row("student, every frame", "dense"),
            Row("student, keyframes", "scjd", "baseline"),
            Row("+ embedding", "embedding"),
            Row("+ attention", "attention"),
            Row("+ temporal", "temporal"),
            Row("+ all three: SCJD", "scjd"),
        ),
        columns=lifting.COLUMNS[data],
        unit="frame",
        reference="student, keyframes",
        published=lifting.PUBLISHED[data],
    )
