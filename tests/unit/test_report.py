"""The files a run leaves: results, metrics, tables and figures."""

import itertools
import json
import resource
import subprocess

import jax
import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import kdpose_jax
from kdpose_jax.contracts import Column
from kdpose_jax.errors import UserError
from kdpose_jax.files import write_atomically
from kdpose_jax.report import figures
from kdpose_jax.report.results import (
    SCHEMA_VERSION,
    fingerprint,
    read_metrics,
    read_results,
    write_results,
)
from kdpose_jax.report.tables import breakdown_table, markdown_table, scaled
from kdpose_jax.report.training_cost import training_cost


def test_results_survive_the_file(tmp_path):
    networks = {
        "teacher": {
            "mpjpe_mm": np.float64(40.9),
            "parameters": np.int64(7),
            "whole": np.bool_(True),
            "sizes": (1, 2),
        },
        "student": {
            "per_action": {"Walking": float("nan")},
            "curve": np.array([1.5, np.inf]),
            "none": None,
        },
    }
    write_results(tmp_path / "results.json", networks, {"commit": "abc"})
    document = read_results(tmp_path / "results.json")
    assert document == {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": {"commit": "abc"},
        "networks": {
            "teacher": {"mpjpe_mm": 40.9, "parameters": 7, "whole": True, "sizes": [1, 2]},
            "student": {"per_action": {"Walking": None}, "curve": [1.5, None], "none": None},
        },
    }
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text and '      "curve": [1.5, null],\n' in text
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_failed_write_keeps_the_older_file(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"teacher": {"mpjpe_mm": 1.0}}, {})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Stands for a disk that fills up while it is written to.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match="results.json' could not be written .*: free space"):
            write_results(path, {"teacher": {"mpjpe_mm": list(range(10_000))}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_write_into_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="could not be written"):
        write_atomically(tmp_path / "nowhere" / "file", b"")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "There is no .*results.json"),
        (b'{"schema_version": 1, "netw', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "schema version None"),
        (b'{"schema_version": 99, "networks": {}, "fingerprint": {}}', "schema version 99"),
        (b'{"schema_version": 1}', "run the evaluation again"),
        (b'{"schema_version": 1, "fingerprint": {}, "networks": []}', "is damaged .*delete it"),
        (b'{"schema_version": 1, "fingerprint": 3, "networks": {}}', "is damaged"),
        (b'{"schema_version": 1, "fingerprint": {}, "networks": {"student": [1]}}', "is damaged"),
    ],
)
def test_bad_results(tmp_path, content, message):
    if content is not None:
        (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "results.json")


def test_fingerprint_of_a_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        options = [
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        command = ["git", "-C", str(tmp_path), *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(kdpose_jax, "__file__", str(tmp_path / "package" / "__init__.py"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("one")
    assert fingerprint("float32", {})["commit"] is None
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file", "package")
    git("commit", "-q", "--no-verify", "-m", "first")
    (tmp_path / "results").write_text("a run's own output changes nothing")
    record = fingerprint("bfloat16", {"teacher": "t"})
    assert record["commit"] == git("rev-parse", "HEAD")
    assert record["uncommitted_changes"] is False
    assert record["versions"]["jax"] == jax.__version__
    assert record["device_count"] == jax.device_count() and record["platform"] == "cpu"
    assert record["precision"] == "bfloat16" and record["teacher"] == "t"
    assert record["version"] == kdpose_jax.__version__
    json.dumps(record, allow_nan=False)
    (tmp_path / "file").write_text("two")
    assert fingerprint("float32", {})["uncommitted_changes"] is True
    # A checkout that merely surrounds an installed package is not its own.
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(kdpose_jax, "__file__", str(installed / "__init__.py"))
    assert fingerprint("float32", {})["commit"] is None


def test_fingerprint_states_the_matmul_precision():
    with jax.default_matmul_precision("highest"):
        assert fingerprint("float32", {})["matmul_precision"] == "highest"


def test_metrics_of_a_killed_and_resumed_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 10, "loss": 3.0},
        {"step": 20, "loss": 2.0},
        {"step": 20, "mpjpe_mm": 90.0},  # an evaluation, not a repetition
        {"step": 30, "loss": 1.0},
        {"step": 20, "loss": 2.5},  # resumed from step 10
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "lo')
    records = read_metrics(path)
    assert [record["step"] for record in records] == [10, 20, 20, 30]
    assert {"step": 20, "loss": 2.5} in records and {"step": 20, "mpjpe_mm": 90.0} in records


def test_bad_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(UserError, match="There is no"):
        read_metrics(path)
    path.write_text('{"step": 1}\n{"loss": 2}\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        read_metrics(path)


def test_markdown_table():
    rows = [
        {"name": "teacher", "error": 40.94, "parameters": 33_783_811},
        {"name": "a|b", "error": None, "parameters": 0},
        {"name": "c", "error": float("nan"), "parameters": 1_000},
    ]
    columns = [
        Column("name", "network", str),
        Column("error", "MPJPE (mm)", "{:.1f}".format),
        Column("parameters", "parameters", scaled),
    ]
    assert markdown_table(rows, columns) == (
        "| network | MPJPE (mm) | parameters |\n"
        "| :------ | ---------: | ---------: |\n"
        "| teacher |       40.9 |    33.78 M |\n"
        "| a\\|b    |          - |      0.000 |\n"
        "| c       |          - |    1.000 k |\n"
    )
    with pytest.raises(KeyError):
        markdown_table([{"name": "teacher"}], columns)


def test_breakdown_table():
    values = {"teacher": {"Walking": 30.0, "Eating": 40.0}, "student": {"Walking": 35.26}}
    averages = {"mean over actions": {"teacher": 35.0, "student": 35.26}}
    assert breakdown_table(values, averages, "{:.1f}".format, "action") == (
        "| action            | teacher | student |\n"
        "| :---------------- | ------: | ------: |\n"
        "| Eating            |    40.0 |       - |\n"
        "| Walking           |    30.0 |    35.3 |\n"
        "| mean over actions |    35.0 |    35.3 |\n"
    )


@pytest.mark.parametrize(
    "value, text",
    [
        (33_783_811, "33.78 M"),
        (277_247_867_904, "277.2 G"),
        (999_949, "999.9 k"),
        (999_951, "1.000 M"),
        (999.96, "1.000 k"),
        (9.9996, "10.00"),
        (47.5, "47.50"),
        (2.5e12, "2.500 T"),
        (-1500, "-1.500 k"),
    ],
)
def test_scaled(value, text):
    assert scaled(value) == text


# Long: it must fit all the same.
STUDENT = "student with SCJD from the same seed and budget, phase augmentation"
RUNS = {
    "teacher": [{"step": step, "loss": 1 / step, "learning_rate": 1e-3} for step in range(1, 30)]
    + [{"step": 29, "error": 40.0}],
    STUDENT: [{"step": step, "loss": 2 / step, "error": None} for step in range(1, 30)],
}
ACTIONS = {
    "teacher": {"Walking": 30.0, "Sitting": 50.0},
    STUDENT: {"Walking": 33.0, "Sitting": None},
}
POINTS = [
    figures.CostPoint("teacher", 1.1e9, (40.9,)),
    figures.CostPoint(STUDENT, 9.5e7, (44.0, 44.9, 44.6)),
]
LABELS = {"cost_label": "FLOPs per frame", "score_label": "MPJPE (mm)"}


def draw_curves(path, **options):
    figures.training_curves(path, RUNS, [("loss", "loss"), ("error", "MPJPE (mm)")], **options)


def draw_scatter(path, **options):
    figures.score_against_cost(path, POINTS, **LABELS, **options)


def draw_bars(path, **options):
    figures.breakdown_bars(path, ACTIONS, label="MPJPE (mm)", **options)


@pytest.fixture
def drawn(monkeypatch):
    """The figures drawn, as matplotlib holds them just before they are saved."""
    caught = []
    original = figures.Figure.savefig

    def savefig(figure, *arguments, **options):
        original(figure, *arguments, **options)
        caught.append(figure)

    monkeypatch.setattr(figures.Figure, "savefig", savefig)
    return caught


@pytest.mark.parametrize("draw", [draw_curves, draw_scatter, draw_bars])
@pytest.mark.parametrize("generated", [False, True])
def test_figures(draw, generated, tmp_path, drawn):
    draw(tmp_path / "figure.png", dataset="Human3.6M", generated=generated)
    picture = matplotlib.image.imread(tmp_path / "figure.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 600
    (figure,) = drawn
    title = figure.get_suptitle()
    assert "Human3.6M" in title
    assert ("generated data" in title) is generated
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["teacher", STUDENT]
    # Nothing overlaps: the legend lies below every panel with its labels, the title above.
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in (legend, figure._suptitle):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert box.y0 >= legend.get_window_extent(renderer).y1 - 1
        assert box.y1 <= figure._suptitle.get_window_extent(renderer).y0 + 1


def test_curves_show_what_was_recorded(tmp_path, drawn):
    draw_curves(tmp_path / "figure.png", dataset="d", generated=False)
    loss, error = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["teacher", STUDENT]
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [2 / step for step in range(1, 30)])
    assert len(error.lines) == 1  # the student has no such value
    np.testing.assert_array_equal(error.lines[0].get_xydata(), [[29, 40.0]])
    assert error.lines[0].get_marker() == "o"


@pytest.mark.parametrize("costs", [(3e6,), (2.9e6, 4e6), (1e6, 1e9), (1e3, 1e12)])
def test_cost_axis_is_labelled_without_overlap(costs, tmp_path, drawn):
    points = [figures.CostPoint(f"network {cost:g}", cost, (40.0,)) for cost in costs]
    figures.score_against_cost(
        tmp_path / "scatter.png", points, **LABELS, dataset="d", generated=False
    )
    axes = drawn[0].axes[0]
    lowest, highest = axes.get_xlim()
    labels = [
        label for label in axes.get_xticklabels() if lowest <= label.get_position()[0] <= highest
    ]
    assert len(labels) >= 2
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    boxes = sorted((label.get_window_extent(renderer) for label in labels), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_training_cost_is_summed_over_the_log():
    records = [
        {"step": 1, "loss": 2.0},  # the first step, which compiles, has no time
        {"step": 50, "loss": 1.0, "interval_seconds": 30.0},
        {"step": 50, "test_error": 4.0},
        {"step": 90, "loss": 1.0, "interval_seconds": 42.0},
    ]
    spent = training_cost(records, batch=4, unit=("frames", 27), cores=2)
    assert spent == {"steps": 90, "seen": 90 * 4 * 27, "unit": "frames", "core_hours": 0.04}
    assert training_cost([], batch=4, unit=("frames", 27), cores=2)["core_hours"] is None


def test_points_and_bars_show_what_was_given(tmp_path, drawn):
    draw_scatter(tmp_path / "scatter.png", dataset="d", generated=False)
    draw_bars(tmp_path / "bars.png", dataset="d", generated=False)
    scatter, bars = (figure.axes[0] for figure in drawn)
    teacher, student = scatter.containers
    np.testing.assert_allclose(student.lines[0].get_xydata(), [[9.5e7, 44.5]])  # the mean
    (interval,) = student.lines[2][0].get_segments()
    np.testing.assert_allclose(interval, [[9.5e7, 44.0], [9.5e7, 44.9]])
    assert not teacher.lines[2]  # one seed has no interval
    assert scatter.get_xscale() == "log"
    heights = [[patch.get_height() for patch in group] for group in bars.containers]
    assert heights == [[50.0, 30.0], [33.0]]  # Sitting, Walking
    centres = [
        patch.get_x() + patch.get_width() / 2 for group in bars.containers for patch in group
    ]
    assert [round(centre) for centre in centres] == [0, 1, 1]
    assert [text.get_text() for text in bars.get_xticklabels()] == ["Sitting", "Walking"]
