"""The maps name what is there: paths, names in them, packages, tasks and links; and arrows point down."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.fab import REPOSITORY

PAGES = [
    *REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("tests/**/README.md"),
]  # fmt: skip
NAMED = re.compile(r"`((?:fabfile|tests|docs)/[\w./-]*)`(?::\s+`([\w.]+)`)?")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for path, name in NAMED.findall(text):
        found = REPOSITORY / path
        assert found.exists(), path
        assert not name or name in names(found), f"{path} has no {name}"
    for path, anchor in LINK.findall(text):
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), path
        assert not anchor or f"\n## {anchor.capitalize()}\n" in found.read_text(), f"{path}#{anchor}"


@cache
def names(path: Path) -> set[str]:
    """The functions and classes of a module, and Class.method."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return found


def test_every_package_says_what_it_is_for() -> None:
    for path in REPOSITORY.glob("fabfile/**/__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert said and len(said.split()) > 4, path


def test_the_tree_of_the_guide_is_the_tree() -> None:
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text()
    packages = {path.parent.name for path in REPOSITORY.glob("fabfile/*/__init__.py")}
    tree = guide.partition("```\nfabfile/")[2].partition("tests/")[0]
    assert packages <= set(re.findall(r"^  (\w+)/", tree, re.M))
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(re.findall(r"^\| `(\w+)/` \|", guide, re.M))


# -- the walls -------------------------------------------------------------------------------------------

ORDER = ["cli", "fleet", "phases", "parallel", "commands", "build", "session", "site", "remote"]


def imports(path: Path) -> set[str]:
    """What a module imports of ours when it is imported: the first part of each name below fabfile."""
    package = path.relative_to(REPOSITORY / "fabfile").parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - (node.level - 1)]
            whole = (*above, *(node.module or "").split(".")) if node.module else above
            found |= {whole[0]} if whole else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("layer", ORDER)
def test_arrows_point_down(layer: str) -> None:
    base = REPOSITORY / "fabfile" / layer
    modules = list(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    above = set(ORDER[: ORDER.index(layer)]) | ({"report", "cli"} if layer != "cli" else set())
    wrong = {str(path.relative_to(REPOSITORY)): imports(path) & above for path in modules}
    assert not any(wrong.values()), {path: found for path, found in wrong.items() if found}


def test_nothing_is_too_large() -> None:
    """A function has 50 lines at the most, a module 420."""
    large = []
    for path in REPOSITORY.glob("fabfile/**/*.py"):
        text = path.read_text()
        if len(text.splitlines()) > 420 and path.name != "server.py":
            large.append(f"{path}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.body:
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                lines = (node.body[-1].end_lineno or 0) - first.lineno + 1
                if lines > 50:
                    large.append(f"{path}: {node.name} has {lines} lines")
    assert not large, "\n".join(large)
