"""The tree is called fabfile in a clone, and switchover where it is installed: neither stands in the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "fabfile"
MODULES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_module_names_the_package(path: Path) -> None:
    """Neither in an import nor as a text; docstrings are for people."""
    tree = ast.parse((FOLDER / path).read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            assert node.value == "fabfile.py" or not node.value.startswith("fabfile."), (
                node.lineno,
                node.value,
            )
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            assert not [
                name for name in names if name and name.partition(".")[0] in ("fabfile", "switchover")
            ]
