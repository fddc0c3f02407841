"""The structure of the code: arrows point down, there is no circle, and nothing grows out of sight."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "fabfile"
MODULES = sorted(ROOT.rglob("*.py"))

CLASS = 200  # lines
FUNCTION = 50  # lines
MODULE = 420  # lines

# From the top down: a module imports from its own floor's folder, and from the floors below.
FLOORS = (
    ("__main__", "__init__"),
    ("cli",),
    ("demo",),
    ("report",),
    ("fleet", "diagnosis", "init"),
    ("phases",),
    ("aftermath",),
    ("parallel",),
    ("commands",),
    ("build",),
    ("session",),
    ("results", "hosts"),
    ("on_host",),
    ("remote",),
    ("local", "settings"),
    ("redaction",),
    ("sensitive", "typed", "interruption", "errors", "events", "background", "address"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(path: Path) -> str:
    """The folder or module right below fabfile/ that a module belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[Path]:
    """The modules of ours that a module imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1]
        folder = base.joinpath(*(node.module or "").split(".")) if node.module else base
        if folder.with_suffix(".py").is_file():
            yield folder.with_suffix(".py")
            continue
        for name in node.names:
            module = folder / f"{name.name}.py"
            package = folder / name.name / "__init__.py"
            yield next((found for found in (module, package) if found.is_file()), folder / "__init__.py")


ARROWS = {path: sorted(set(imported(path)) - {path}) for path in MODULES}


def test_arrows_point_down() -> None:
    """No module imports from a floor above its own, nor from another room of its floor."""
    assert {room(path) for path in MODULES} <= FLOOR.keys(), "a room that stands on no floor"
    up = [
        f"{path.relative_to(ROOT)} -> {target.relative_to(ROOT)}"
        for path, targets in ARROWS.items()
        for target in targets
        if room(path) != room(target) and FLOOR[room(target)] <= FLOOR[room(path)]
    ]
    assert not up


def test_there_is_no_circle() -> None:
    """Module by module, type checking's imports too: what is taken away again and again imports no other."""
    left = {path: set(targets) for path, targets in ARROWS.items()}
    while done := {path for path, targets in left.items() if not targets & left.keys()}:
        left = {path: targets for path, targets in left.items() if path not in done}
    assert not {str(path.relative_to(ROOT)) for path in left}


@pytest.mark.parametrize(
    ("kinds", "limit"),
    [((ast.ClassDef,), CLASS), ((ast.FunctionDef, ast.AsyncFunctionDef), FUNCTION)],
    ids=["classes", "functions"],
)
def test_nothing_is_too_long(kinds: tuple[type[ast.ClassDef | ast.FunctionDef], ...], limit: int) -> None:
    """No class over 200 lines, no function over 50."""
    long = [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds) and node.end_lineno and node.end_lineno - node.lineno >= limit
    ]
    assert not long


def test_the_type_checker_is_overruled_with_a_reason() -> None:
    """A `type: ignore` names the error, and says why, behind it or in the line above. A class of Fabric's or
    Paramiko's, which have no types, needs no word.
    """
    untyped = re.compile(r"^class \w+\([\w.]+\):  # type: ignore\[misc\]$")
    bare = []
    for path in MODULES:
        above = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            why = re.search(r"# type: ignore\[[a-z-]+\](  # \S)?", line)
            reason = bool(why and why[1]) or above.strip().startswith("#") or bool(untyped.match(line))
            if "# type: ignore" in line and not (why and reason):
                bare.append(f"{path.relative_to(ROOT)}:{number}")
            above = line
    assert not bare


def test_no_strategy_is_asked_for_its_name() -> None:
    """Each strategy owns all in which it differs."""
    asked = re.compile(r"strategy(\.name)? *(==|!=|in \()|\.name (==|!=) *[\"'](cache|previous)")
    assert not [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES
        if room(path) != "diagnosis"  # which says of settings what they mean on a host
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if asked.search(line)
    ]


def test_no_module_grows_out_of_sight() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert not {path: lines for path, lines in long.items() if lines > MODULE}


@pytest.mark.parametrize("start", [str(ROOT.parent), ".", "tests/.."])
def test_no_library_finds_ours(start: str) -> None:
    """`fab` puts the folder of the tasks first on the path, where every `import NAME` would look first."""
    load = "from invoke.loader import FilesystemLoader; FilesystemLoader(sys.argv[1]).load('fabfile')"
    look = "from pathlib import Path; print(*[Path(folder).resolve() for folder in sys.path], sep='\\n')"
    call = [sys.executable, "-c", f"import sys; {load}; {look}", start]
    done = subprocess.run(call, cwd=ROOT.parent, capture_output=True, text=True, check=True, timeout=60)
    assert str(ROOT.resolve()) not in done.stdout.splitlines()
