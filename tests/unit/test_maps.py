"""The maps name what is there: paths, names in them, packages and links. The walls are test_house.py's."""

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


def test_every_document_is_listed() -> None:
    listed = {path for path, _ in LINK.findall((REPOSITORY / "docs/README.md").read_text())}
    assert {path.name for path in REPOSITORY.glob("docs/*.md")} - {"README.md"} <= listed


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


def test_what_tests_share_stands_in_one_folder() -> None:
    """No folder of tests imports from another one."""
    wrong = []
    for path in REPOSITORY.glob("tests/*/**/*.py"):
        folder = path.relative_to(REPOSITORY / "tests").parts[0]
        for found in re.findall(r"^\s*from tests(?:\.(\w+))?[\w.]* import", path.read_text(), re.M):
            if found not in (folder, "support"):
                wrong.append(f"{path.relative_to(REPOSITORY)} imports tests.{found}")
    assert not wrong, "\n".join(wrong)
