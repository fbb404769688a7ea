"""Who may import whom, read off the syntax trees, and what some rooms never mention.

The rule: docs/architecture.md#imports.
"""

import ast
import pathlib
import re
import sys

import pytest
from repository import REPOSITORY

ROOTS = ("kdpose_jax", "data_prep", "configs", "browser", "launch")
EVERYBODY = (
    "kdpose_jax.errors",
    "kdpose_jax.untrusted",
    "kdpose_jax.files",
    "kdpose_jax.folders",
    "kdpose_jax.buckets",
    "kdpose_jax.contracts",
    "kdpose_jax.precision",
)
# Room -> what it may import beside itself and EVERYBODY; a name stands for everything below it.
ALLOWED = {
    "kdpose_jax.errors": (),
    "kdpose_jax.folders": (),
    "kdpose_jax.buckets": ("kdpose_jax.errors",),
    "kdpose_jax.files": ("kdpose_jax.errors", "kdpose_jax.buckets"),
    "kdpose_jax.untrusted": ("kdpose_jax.errors",),
    "kdpose_jax.contracts": (),
    "kdpose_jax.precision": (),
    "kdpose_jax.skeletons": (),
    "kdpose_jax.processes": (),
    "kdpose_jax.presets": (),
    "kdpose_jax.entry": (),
    "kdpose_jax.codecs": ("kdpose_jax.skeletons",),
    "kdpose_jax.losses": (),
    "kdpose_jax.data": ("kdpose_jax.skeletons", "kdpose_jax.codecs", "kdpose_jax.presets"),
    "kdpose_jax.models": ("kdpose_jax.codecs",),
    "kdpose_jax.pytorch": ("kdpose_jax.models", "kdpose_jax.codecs"),
    "kdpose_jax.tasks": (
        "kdpose_jax.models",
        "kdpose_jax.losses",
        "kdpose_jax.codecs",
        "kdpose_jax.skeletons",
    ),
    "kdpose_jax.methods": (
        "kdpose_jax.tasks",
        "kdpose_jax.models",
        "kdpose_jax.losses",
        "kdpose_jax.codecs",
        "kdpose_jax.skeletons",
    ),
    "kdpose_jax.checkpoint": (),
    "kdpose_jax.report": ("kdpose_jax.data.schema",),
    "kdpose_jax.keypoints": ("kdpose_jax.skeletons", "kdpose_jax.codecs"),
    "kdpose_jax.poses": ("kdpose_jax.skeletons", "kdpose_jax.codecs"),
    "kdpose_jax.page": (
        "kdpose_jax.poses",
        "kdpose_jax.evaluate.extremes",
        "kdpose_jax.report",
        "kdpose_jax.codecs",
        "kdpose_jax.skeletons",
    ),
    "kdpose_jax.train": ("kdpose_jax.data", "kdpose_jax.checkpoint", "kdpose_jax.processes"),
    "kdpose_jax.evaluate.metrics": ("kdpose_jax.skeletons",),
    "kdpose_jax.evaluate": ("kdpose_jax.codecs", "kdpose_jax.skeletons", "kdpose_jax.data"),
    "kdpose_jax.experiment": (
        "kdpose_jax.train",
        "kdpose_jax.checkpoint",
        "kdpose_jax.evaluate",
        "kdpose_jax.report",
        "kdpose_jax.page",
        "kdpose_jax.data",
        "kdpose_jax.pytorch",
        "kdpose_jax.processes",
        "kdpose_jax.presets",
    ),
    "kdpose_jax.predict": (
        "kdpose_jax.export.formats",
        "kdpose_jax.processes",
        "kdpose_jax.keypoints",
        "kdpose_jax.poses",
        "kdpose_jax.page",
        "kdpose_jax.experiment",
        "kdpose_jax.train",
        "kdpose_jax.checkpoint",
        "kdpose_jax.data",
        "kdpose_jax.codecs",
        "kdpose_jax.skeletons",
        "kdpose_jax.presets",
        "kdpose_jax.processes",
    ),
    "kdpose_jax.export.formats": ("kdpose_jax.export.plain",),
    "kdpose_jax.export": (
        "kdpose_jax.predict",
        "kdpose_jax.experiment",
        "kdpose_jax.train",
        "kdpose_jax.checkpoint",
        "kdpose_jax.evaluate",
        "kdpose_jax.report",
        "kdpose_jax.data",
        "kdpose_jax.processes",
    ),
    "kdpose_jax.study": ("kdpose_jax.report", "kdpose_jax.presets", "kdpose_jax.entry"),
    "kdpose_jax.program": (
        "kdpose_jax.experiment",
        "kdpose_jax.predict",
        "kdpose_jax.export",
        "kdpose_jax.train",
        "kdpose_jax.processes",
        "kdpose_jax.entry",
    ),
    "kdpose_jax.command": (
        "kdpose_jax.program",
        "kdpose_jax.study",
        "kdpose_jax.presets",
        "kdpose_jax.entry",
    ),
    "data_prep": (
        "kdpose_jax.data.schema",
        "kdpose_jax.data.tfrecords",
        "kdpose_jax.skeletons",
        "kdpose_jax.codecs",
        "kdpose_jax.presets",
        "kdpose_jax.entry",
        "kdpose_jax.train.preemption",
    ),
    "configs": ("kdpose_jax.skeletons", "kdpose_jax.study.declare"),
    "browser": (
        "data_prep",
        "kdpose_jax.export",
        "kdpose_jax.predict",
        "kdpose_jax.keypoints",
        "kdpose_jax.page",
        "kdpose_jax.experiment",
        "kdpose_jax.codecs",
        "kdpose_jax.skeletons",
        "kdpose_jax.entry",
    ),
    "launch": ("kdpose_jax.program",),
}
# Module -> what it may import for type checkers alone.
FOR_TYPES = {
    "kdpose_jax": ("kdpose_jax.predict.loading",),
    "kdpose_jax.contracts": (
        "kdpose_jax.data.schema",
        "kdpose_jax.evaluate.example_scores",
        "kdpose_jax.evaluate.extremes",
    ),
}
# What the plain modules may import beside the standard library.
LIGHT = {
    "kdpose_jax.skeletons": ("numpy",),
    "kdpose_jax.codecs": ("numpy", "jax"),
    "kdpose_jax.losses": ("numpy", "jax", "jaxtyping"),
}
TENSORFLOW_ROOMS = (
    "kdpose_jax.data",
    "kdpose_jax.train.tensorboard",
    "kdpose_jax.export.formats.saved_model",
    "data_prep",
)
WITHOUT_A_TASK = (
    "launch",
    "kdpose_jax.program",
    "kdpose_jax.train",
    "kdpose_jax.checkpoint",
    "kdpose_jax.experiment",
)


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, pathlib.Path]:
    found = [path for root in ROOTS for path in sorted((REPOSITORY / root).rglob("*.py"))]
    return {module_name(path): path for path in [*found, REPOSITORY / "launch.py"]}


SOURCES = sources()
every_module = pytest.mark.parametrize("module", SOURCES)


def below(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    """The innermost room."""
    return max((room for room in ALLOWED if below(module, room)), key=len, default="")


def imports(module: str, tree: ast.AST) -> set[str]:
    """Every module that a file imports, anywhere in it.

    `from package import module` counts as the module.
    """
    package = module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            found |= {
                name if (name := f"{base}.{alias.name}") in SOURCES else base
                for alias in node.names
            }
    return found


def at_run_time(tree: ast.Module) -> ast.Module:
    """The file without the blocks `if TYPE_CHECKING:` of its top level."""
    kept = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.Module(kept, tree.type_ignores)


def parse(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


def test_the_files_are_found():
    assert {
        "launch",
        "configs.scjd",
        "data_prep.convert",
        "kdpose_jax.train.loop",
        "kdpose_jax.methods.scjd.method",
    } <= SOURCES.keys()
    lines = [
        "from kdpose_jax.train import loop",
        "from . import optim",
        "from ..data.order import x",
    ]
    lines += ["def late():", "    import kdpose_jax.codecs"]
    tree = ast.parse("\n".join(lines))
    assert imports("kdpose_jax.train.step", tree) == {
        "kdpose_jax.train.loop",
        "kdpose_jax.train.optim",
        "kdpose_jax.data.order",
        "kdpose_jax.codecs",
    }
    lines = ["if TYPE_CHECKING:", "    import kdpose_jax.data", "if late:", "    import kdpose_jax"]
    tree = at_run_time(ast.parse("\n".join(lines)))
    assert imports("kdpose_jax.contracts", tree) == {"kdpose_jax"}


@every_module
def test_imports_follow_the_data(module):
    if module == "kdpose_jax":
        found = imports(module, parse(module)) - set(FOR_TYPES[module])
        found |= imports(module, at_run_time(parse(module)))
        assert not [name for name in found if name.split(".")[0] in ROOTS]
        return
    room = room_of(module)
    assert room, f"{module} lies in no room: add it to docs/architecture.md and ALLOWED, or move it"
    allowed = (room, *ALLOWED[room])
    if room not in EVERYBODY:
        allowed += EVERYBODY
    found = imports(module, parse(module))
    if module in FOR_TYPES:
        found = found - set(FOR_TYPES[module]) | imports(module, at_run_time(parse(module)))
    # The package itself holds its version alone.
    ours = [name for name in found if name.split(".")[0] in ROOTS]
    ours = [name for name in ours if name != "kdpose_jax"]
    bad = [name for name in ours if not any(below(name, one) for one in allowed)]
    assert not bad, f"{module} may not import {bad}"


@every_module
def test_nobody_imports_the_entry_points(module):
    found = imports(module, parse(module))
    assert "launch" not in found
    if not below(module, "launch") and not below(module, "configs"):
        assert not any(below(name, "configs") for name in found), (
            "only launch.py reads configs/, through its flag"
        )


@pytest.mark.parametrize(
    ("module", "room"),
    [(module, room) for room in LIGHT for module in SOURCES if below(module, room)],
)
def test_plain_modules_need_little(module, room):
    others = (
        {name.split(".")[0] for name in imports(module, parse(module))}
        - set(ROOTS)
        - set(sys.stdlib_module_names)
    )
    assert others <= set(LIGHT[room])


@every_module
def test_tensorflow_stays_where_its_files_are(module):
    if any(below(module, room) for room in TENSORFLOW_ROOMS):
        return
    assert not [
        name
        for name in imports(module, parse(module))
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets")
    ]


@every_module
def test_no_torch_at_run_time(module):
    assert not [
        name
        for name in imports(module, parse(module))
        if name.split(".")[0] in ("torch", "timm", "torchvision")
    ]


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def fallback_reads(tree: ast.AST) -> list[int]:
    """Lines with `X.get(key, default)` or `getattr(X, key, default)` where X has to do with a
    config.
    """
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            subject = node.func.value
            fallback = len(node.args) > 1 or any(
                keyword.arg == "default" for keyword in node.keywords
            )
        elif isinstance(node.func, ast.Name) and node.func.id == "getattr" and node.args:
            subject, fallback = node.args[0], len(node.args) > 2
        else:
            continue
        if fallback and any("config" in name.lower() for name in names_in(subject)):
            lines.append(node.lineno)
    return lines


def test_fallback_reads_are_recognised():
    for line in (
        "config.get('a', 1)",
        "config.student.get('a', default=1)",
        "getattr(run.config, 'a', None)",
        "my_config.data.get(k, ())",
    ):
        assert fallback_reads(ast.parse(line)) == [1], line
    for line in ("config.get_ref('a')", "table.get('a', 1)", "getattr(config, 'a')"):
        assert fallback_reads(ast.parse(line)) == [], line


@every_module
def test_no_hidden_defaults(module):
    """A field that a config lacks is an error, not a default of the code that reads it."""
    assert fallback_reads(parse(module)) == []


@pytest.mark.parametrize(
    "module", [name for name in SOURCES if any(below(name, room) for room in WITHOUT_A_TASK)]
)
def test_the_trainer_knows_no_task(module):
    """The loop and all that is around it serve every method, so no word of a task occurs in them,
    comments included.
    """
    lines = SOURCES[module].read_text().splitlines()
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if re.search(r"joint|simdr|image", line, re.IGNORECASE)
    ]
    assert not found


@every_module
def test_no_room_for_odds_and_ends(module):
    assert module.split(".")[-1] not in ("utils", "util", "helpers", "misc", "common_utils")
