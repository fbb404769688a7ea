"""The documents hang together: links and citations resolve, prose is at most 100 columns wide."""

import ast
import functools
import pathlib
import re
import subprocess

import pytest
from repository import REPOSITORY

WIDTH = 100
ANYWHERE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")  # documents outside docs/

FENCE = re.compile(r"^ *(```|~~~)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)")
CITATION = re.compile(r"\bdocs/[\w./-]+?\.md(?:#[\w-]*\w)?")
NAMED_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.py)`")
OLD_CITATION = re.compile(r"(?<!\.com/)\bspec/|\b[Ss]pec \d|\bspec of the method")


@functools.cache
def tracked() -> tuple[str, ...]:
    """The files that git tracks, and those that a commit of everything would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return tuple(sorted({name for name in listed if (REPOSITORY / name).is_file()}))


def documents() -> list[str]:
    return [
        name
        for name in tracked()
        if name in ANYWHERE or (name.startswith("docs/") and name.endswith(".md"))
    ]


def sources() -> list[str]:
    return [name for name in tracked() if name.endswith(".py")]


@functools.cache
def read(name: str) -> str:
    return (REPOSITORY / name).read_text()


def outside_fences(text: str) -> list[tuple[int, str]]:
    """(number, line) of every line that is not in a block of code."""
    lines, fence = [], ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            lines.append((number, line))
    return lines


def slug(heading: str) -> str:
    """GitHub's anchor of a heading.

    Lower case, spaces to hyphens, without markup and punctuation.
    """
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link counts by its text
    text = re.sub(r"[^\w\- ]", "", text.lower())
    return text.replace(" ", "-")


def anchors(text: str) -> list[str]:
    """The anchors of a document; a heading that occurs again gets a number."""
    found: list[str] = []
    for _, line in outside_fences(text):
        heading = HEADING.match(line)
        if heading:
            first, count = slug(heading[1]), 0
            name = first
            while name in found:
                count += 1
                name = f"{first}-{count}"
            found.append(name)
    return found


def links(text: str) -> list[tuple[int, str]]:
    """(line, target) of every link and picture; code holds none."""
    prose = outside_fences(text)
    where: list[tuple[int, str]] = []
    for number, line in prose:
        reference = REFERENCE.match(line)
        if reference:
            where.append((number, reference[1]))
    # A link's text may go on in the next line.
    joined = "\n".join(re.sub(r"`[^`]*`", "code", line) for _, line in prose)
    for match in LINK.finditer(joined):
        where.append((prose[joined.count("\n", 0, match.start())][0], match[1]))
    return where


def problem(target: str, place: str) -> str:
    """What is wrong with a link from the document `place`; "" if nothing is."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target):  # another site's
        return ""
    path, _, anchor = target.partition("#")
    name = place
    if path:
        whole = (REPOSITORY / pathlib.PurePosixPath(place).parent / path).resolve()
        if not whole.is_relative_to(REPOSITORY):
            return f"{target} is outside the repository"
        name = whole.relative_to(REPOSITORY).as_posix()
    if not any(one == name or one.startswith(f"{name}/") for one in tracked()):
        return f"{target}: git tracks no {name}"
    if anchor and not name.endswith(".md"):
        return "" if re.fullmatch(r"L\d+(-L\d+)?", anchor) else f"{target}: {name} has no headings"
    if anchor and anchor not in anchors(read(name)):
        return f"{target}: {name} has no heading of this anchor, it has {anchors(read(name))}"
    return ""


def too_wide(text: str) -> list[int]:
    """Lines of prose over the width: not tables, not code, not an address that stands alone."""
    return [
        number
        for number, line in outside_fences(text)
        if len(line) > WIDTH
        and not line.lstrip().startswith("|")
        and len(line.split()) > 1 + line.lstrip().startswith(("- ", "* "))
    ]


def test_the_rules_are_githubs():
    """Anchors and links as GitHub makes them; what is checked below is found at all."""
    assert slug("Human3.6M with CPN detections") == "human36m-with-cpn-detections"
    assert slug("`mode`: what it does, and [why](a.md)") == "mode-what-it-does-and-why"
    text = "# One\n```\n# code [x](no.md)\n```\n## Two `a b`\n## Two a b\n[long\ntext](a.md#b) "
    text += "`[c](d.md)` ![p](e.png)\n[r]: f.md\n"
    assert anchors(text) == ["one", "two-a-b", "two-a-b-1"]
    assert sorted(links(text)) == [(7, "a.md#b"), (8, "e.png"), (9, "f.md")]
    assert [
        CITATION.findall(line)
        for line in ("see docs/methods/scjd.md#keyframes.", "(docs/a-b.md), x")
    ] == [
        ["docs/methods/scjd.md#keyframes"],
        ["docs/a-b.md"],
    ]
    assert too_wide(
        f"{'a ' * 51}\n| {'a ' * 51}|\n```\n{'a ' * 51}\n```\nhttps://{'a' * 100}\n- {'a' * 100}\n"
    ) == [1]
    assert {"README.md", "docs/methods/scjd.md"} <= set(documents())


def test_a_broken_link_is_seen():
    assert problem("methods/scjd.md#keyframes", "docs/architecture.md") == ""
    assert problem("https://example.org/no.md", "README.md") == ""
    assert problem("configs", "README.md") == ""
    for target in (
        "methods/none.md",
        "methods/scjd.md#none",
        "#none",
        "../../elsewhere.md",
        "methods/scjd",
        "../configs#none",
    ):
        assert problem(target, "docs/architecture.md"), target


@pytest.mark.parametrize("name", documents())
def test_links_resolve(name):
    wrong = [
        f"{name}:{line}: {told}"
        for line, target in links(read(name))
        if (told := problem(target, name))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", documents())
def test_named_files_are_there(name):
    """`models/mixste.py` in the prose is the end of a path of ours, in one place."""
    prose = "\n".join(line for _, line in outside_fences(read(name)))
    for named in NAMED_FILE.findall(prose):
        where = [path for path in tracked() if path == named or path.endswith(f"/{named}")]
        assert len(where) == 1, f"{name} names {named}, which is {where or 'nowhere'}"


def test_citations_in_code_resolve():
    """docs/...md and docs/...md#anchor in any Python file."""
    cited, wrong = set(), []
    for name in sources():
        if name == "tests/structure/test_docs.py":
            continue
        for citation in CITATION.findall(read(name)):
            cited.add(citation)
            if told := problem(citation, "README.md"):
                wrong.append(f"{name}: {told}")
    assert not wrong, "\n".join(wrong)
    assert "docs/methods/scjd.md#joint-embedding" in cited


def test_nothing_cites_what_is_not_here():
    """The specifications are docs/methods.

    The folder `spec` that they came from was never in the repository.
    """
    texts = [*sources(), *documents()]
    wrong = [
        f"{name}:{number}: {line.strip()}"
        for name in texts
        if name != "tests/structure/test_docs.py"
        for number, line in enumerate(read(name).splitlines(), start=1)
        if OLD_CITATION.search(line) or "DESIGN.md" in line
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", documents())
def test_prose_is_narrow(name):
    wide = too_wide(read(name))
    assert not wide, f"{name}: lines {wide} have more than {WIDTH} columns"


SECTION = re.compile(r" *(Args|Attributes|Raises|Returns|Yields):$")
ITEM = re.compile(r"  [\w*, .`\[\]()\"/|-]+:")  # `name: what it is`, its next lines being deeper


@pytest.mark.parametrize("name", sources())
def test_sections_of_docstrings_are_laid_out(name):
    """Sections begin at the docstring's edge, and each of their items has its name in front."""
    wrong = []
    for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        section = None
        for line in (ast.get_docstring(node) or "").splitlines():
            if found := SECTION.match(line):
                section = found[1]
                wrong += [line] * line.startswith(" ")
            elif line and not line.startswith(" "):
                section = None
            elif section in ("Args", "Attributes", "Raises") and re.match(r"  \S", line):
                wrong += [line] * (not ITEM.match(line))
    assert not wrong


def docstrings(tree: ast.AST) -> list[str]:
    """The docstrings of a file, of its classes and of its functions."""
    found = [
        ast.get_docstring(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    ]
    return [text for text in found if text]


def outside_tests() -> list[str]:
    return [name for name in sources() if not name.startswith("tests/")]


@pytest.mark.parametrize("name", outside_tests())
def test_docstrings_begin_with_one_line(name):
    found = docstrings(ast.parse(read(name)))
    assert not [text for text in found if len(text.split("\n\n")[0].splitlines()) > 1]


def functions(tree):
    """The functions and methods that are called; properties have the docstrings of values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
            if not decorators & {"property", "cached_property"}:
                yield node


@pytest.mark.parametrize("name", outside_tests())
def test_docstrings_of_functions_begin_with_what_they_do(name):
    found = [ast.get_docstring(node) or "Has none." for node in functions(ast.parse(read(name)))]
    assert not [text for text in found if not re.match(r"[A-Z][a-z]+s[ ,.]", text)]


NAMED = re.compile(r"`([A-Za-z_][\w.]*)`")
# Names of other programs, and made-up ones, which docstrings and comments mention.
ELSEWHERE = {
    "ious", "pred_out_dir", "save_conf", "soft_oks_nms", "walk_000000000012_keypoints",
    "weighted_NAME",
}  # fmt: skip


@functools.cache
def known_names() -> frozenset[str]:
    """Every name and every word of text in the code, docstrings and comments left out."""
    found = set(ELSEWHERE)
    for name in tracked():
        found |= {part for piece in pathlib.PurePath(name).parts for part in piece.split(".")}
        if name.endswith(".js"):
            found |= set(re.findall(r"\w+", read(name)))
        if not name.endswith(".py"):
            continue
        tree = ast.parse(read(name))
        described = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if id(node) not in described:
                    found |= set(re.findall(r"\w+", node.value))
            for field in ("id", "attr", "arg", "name", "asname", "module"):
                text = getattr(node, field, None)
                found |= set(text.split(".")) if isinstance(text, str) else set()
    return frozenset(found)


@pytest.mark.parametrize("name", outside_tests())
def test_names_in_docstrings_exist(name):
    """A name in backquotes is one of the code: a module that was renamed is not left in words."""
    mentioned = {part for text in NAMED.findall(read(name)) for part in text.split(".") if part}
    assert not mentioned - known_names()
