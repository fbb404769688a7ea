"""Every lifting network under one budget: as many steps over the same frames, scored on the same frames. MixSTE is SCJD's teacher.

  python -m kdpose_jax.report.study configs/studies/lifters.py                                      demo: generated motion
  python -m kdpose_jax.report.study configs/studies/lifters.py:mocap --config.data.records=DIR      or h36m
"""

from configs import common
from configs.studies.parts import lifting, published
from kdpose_jax.report.comparison import Of, Row, Run, Study

TITLES = {"mixste": "MixSTE", "mixste_hot": "HoT on MixSTE", "poseformer_v2": "PoseFormerV2", "videopose3d": "VideoPose3D"}


def get_study(text: str = "") -> Study:
    """The study behind `configs/studies/lifters.py[:data]`."""
    data, _ = common.parse_preset(text, lifting.DATA, {})
    records = {"data.records": Of("mixste", "data")}
    width, depth = lifting.SIZES[data][1]
    small = {"student.network.width": width, "student.network.depth": depth}
    calls = {"demo": (1, 16), "mocap": (1, 16), "h36m": (1, 64)}[data]  # as many frames as the others predict in a call
    scored = {"eval.settings.windows": "exact", "eval.latency_batches": calls}
    student = {**records, "teacher.checkpoint": Of("mixste", "student"), **scored}
    return Study(
        name=f"lifters_{data}",
        title="Lifting networks under one budget",
        runs=(
            *(Run(name, f"configs/lifters.py:{name},data={data}", records) for name in TITLES),
            Run("mixste_small", f"configs/lifters.py:mixste,data={data}", {**records, **small}),
            Run("scjd", lifting.scjd(data), student),
            Run("scjd_of_teachers_size", lifting.scjd(data), {**student, **teacher_size(data), "baseline": False}),
        ),
        rows=(
            *(Row(title, name) for name, title in TITLES.items()),
            Row("MixSTE of the student's size", "mixste_small"),
            Row("the same on keyframes", "scjd", "baseline"),
            Row("the same with SCJD", "scjd"),
            Row("MixSTE on keyframes with SCJD", "scjd_of_teachers_size"),
        ),
        columns=lifting.COLUMNS,
        unit="frame",
        reference="the same with SCJD",
        published=(published.HUMAN36M,),
    )


def teacher_size(data: str) -> dict[str, int]:
    """The student as large as MixSTE in configs/lifters.py."""
    width, depth = {"demo": (16, 2), "mocap": (64, 4), "h36m": (512, 8)}[data]
    return {"student.network.width": width, "student.network.depth": depth}
