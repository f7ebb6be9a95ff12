"""The house: how much may stand where, and that whatever documents name is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_ENTRIES = 28
MOST_LINES = 350
#: A file that leaves the house alone, without the rest: what its classes are called is a promise to others.
LEAVES_ALONE = "streaming/scorers/standalone.py"

#: What people read; decisions and the changelog tell of their own time and are left alone.
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "conf" / "production.yaml", *(ROOT / "docs").glob("*.md")])
SOURCES = sorted(path for folder in ("streaming", "tests", "benchmarks", "jobs") for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a module's tree; several tests look at all of them."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def test_the_hall_has_room_for_few() -> None:
    entries = [path.name for path in (ROOT / "streaming").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, (
        f"{len(entries)} entries at the top of streaming/: give the new ones a room of docs/architecture.md"
    )


def test_no_file_is_too_long() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    long = {name: n for name, n in lines.items() if n > MOST_LINES}
    assert not long, f"more than {MOST_LINES} lines: ask what these files really are: {long}"


def test_every_room_says_what_is_in_it() -> None:
    for package in (ROOT / "streaming").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(package.read_text())), f"{name_of(package)}: no docstring"


def test_the_floor_plan_has_every_room() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    top = [path for path in (ROOT / "streaming").iterdir() if not path.name.startswith("__")]
    missing = [name_of(path) for path in top if f"`{name_of(path)}`" not in plan]
    assert not missing, f"docs/architecture.md: no line for {missing}"


def twins(sources: dict[str, str]) -> dict[str, list[str]]:
    """Public classes of one name in several files. A private one (`_Job`) means what it means inside its own file."""
    homes: dict[str, list[str]] = {}
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)
    return {name: files for name, files in homes.items() if len(files) > 1}


def test_a_class_name_means_one_thing() -> None:
    sources = {name_of(path): path.read_text() for path in (ROOT / "streaming").rglob("*.py")}
    sources.pop(LEAVES_ALONE)
    assert not (pairs := twins(sources)), f"say in the name which is which: {pairs}"


def test_twins_are_found() -> None:
    sources = {
        "a.py": "class Window: ...\nclass _Job: ...",
        "b.py": "def f():\n    class Window: ...\n",
        "c.py": "class _Job: ...\nclass Job: ...",
    }
    assert twins(sources) == {"Window": ["a.py", "b.py"]}


def test_nothing_is_called_found() -> None:
    """A name says what the thing is; that somebody found it is true of everything."""
    called = [
        f"{name_of(path)}:{getattr(node, 'lineno', '?')}"
        for path in SOURCES
        for node in nodes(path)
        if "found" in (getattr(node, "id", ""), getattr(node, "arg", ""))
    ]
    assert not called, f"variables called found: {called}"


def defined(path: Path) -> set[str]:
    """Names of the functions, methods and classes in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in nodes(path) if isinstance(node, kinds)}


def test_every_step_of_the_walks_is_there() -> None:
    steps = re.findall(r"`([\w/]+\.py): (\w+)`", (ROOT / "docs" / "architecture.md").read_text())
    assert len(steps) > 15
    gone = [f"{file}: {name}" for file, name in steps if not (ROOT / file).is_file() or name not in defined(ROOT / file)]
    assert not gone, f"docs/architecture.md: these steps of a walk are gone: {gone}"


def said(path: Path) -> Iterator[str]:
    """What a file says to people: a document's text, or the docstrings and comments of a source."""
    text = path.read_text()
    if path.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    yield from re.findall(r"#.*", text)


def stale(text: str) -> Iterator[str]:
    """Files and modules of ours that `text` names and that are not there."""
    for name in re.findall(r"(?<![\w/.-])(?:streaming|tests|benchmarks|jobs|scripts|conf|docs)/[\w/.-]*[\w/]", text):
        if not (ROOT / name).exists():
            yield name
    for name in re.findall(r"(?<![\w/.-])(?:streaming|benchmarks|tests)(?:\.[A-Za-z_]\w*)+", text):
        if not importable(name) and not name.endswith(".zip"):  # what spark-submit's --py-files is given
            yield name


def importable(name: str) -> bool:
    """True for a module, or a name inside one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            return end == len(parts) or re.search(rf"\b{re.escape(parts[end])}\b", file.read_text()) is not None
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_what_a_document_names_is_there(path: Path) -> None:
    gone = sorted({name for text in said(path) for name in stale(text)})
    assert not gone, f"{name_of(path)}: names what is not there: {gone}"


def test_what_docstrings_and_comments_name_is_there() -> None:
    gone = {
        name_of(path): names for path in SOURCES if path != Path(__file__) and (names := sorted({n for t in said(path) for n in stale(t)}))
    }
    assert not gone, f"docstrings or comments name what is not there: {gone}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text()) if path.suffix == ".md" else []
    gone = [link for link in links if not (path.parent / link).exists()]
    assert not gone, f"{name_of(path)}: these links lead nowhere: {gone}"


def test_every_test_that_a_guarantee_names_is_there() -> None:
    document = ROOT / "docs" / "guarantees.md"
    named = re.findall(r"\[`(\w+)`\]\(([^)]+)\)", document.read_text())
    assert len(named) > 50
    gone = [f"{file}: {test}" for test, file in named if test not in defined((document.parent / file).resolve())]
    assert not gone, f"docs/guarantees.md: these tests are gone: {gone}"


def test_every_attack_of_the_guarantees_has_an_answer_and_a_test() -> None:
    lines = (ROOT / "docs" / "guarantees.md").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|") and not line.startswith("|---")
    ]
    bare = [
        row
        for row in rows
        if row != ["attack or failure", "what happens", "test"] and (len(row) != 3 or not all(row) or "[`test_" not in row[2])
    ]
    assert not bare, f"docs/guarantees.md: an attack without an answer or a test: {bare}"


def test_a_stale_name_is_found() -> None:
    text = (
        "see `streaming/lanes/score.py`, streaming.lanes.score.score, streaming/decode.py, streaming.decode and streaming.lanes.score.gone"
    )
    assert list(stale(text)) == ["streaming/decode.py", "streaming.decode", "streaming.lanes.score.gone"]
