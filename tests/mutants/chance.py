"""Mistakes made by chance: a module is changed at one place, by one of a few simple operators."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants.table import REPOSITORY, Mistake

# The modules that are changed, each with the tests nearest to it.
MODULES: dict[str, tuple[str, ...]] = {
    f"fabfile/{module}.py": tuple(f"tests/unit/test_{test}.py" for test in tests.split())
    for module, tests in {
        "redaction": "redaction",
        "address": "address",
        "release/apply": "apply upload",
        "release/copying": "copying",
        "release/deadman": "deadman",
        "release/lock": "lock lock_scripts",
        "release/manifest": "manifest upload",
        "release/proof": "proof copying",
        "release/records": "manifest retention host_state",
        "release/retention": "retention",
        "release/shared": "shared",
        "release/state": "host_state upload",
        "release/switch": "switch",
        "release/upload": "upload",
        "remote/answers": "host_state",
        "remote/host_keys": "host_keys",
        "remote/known_hosts": "host_keys",
        "remote/watchdog": "watchdog",
    }.items()
}

FLIPPED = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Lt: ">=", ast.GtE: "<", ast.Gt: "<=", ast.LtE: ">", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip

# What stands in shell scripts: text, and what it becomes.
SHELL = (
    ("[ -f ", "[ -d "), ("[ -d ", "[ -f "), ("[ ! -e ", "[ -e "), ("[ ! -L ", "[ -L "), (" && ", " ; "),
    (" || ", " && "), (" -gt ", " -lt "), ("exit 1", "exit 0"), ("mv -f", "cp"), ("rm -rf", "true"),
    ("> /dev/null", ""), (" -lt ", " -gt "), ("umask 077", "umask 000"), ("tail -n +2", "tail -n +1"),
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """The characters from `start` to `end` become `text`."""

    start: int
    end: int
    text: str
    operator: str


def changes(source: str) -> Iterator[Change]:
    """Every change that the operators can make to a module."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def at(line: int, column: int) -> int:
        begin = lines[line - 1]
        text = source[begin : lines[line]] if line < len(lines) else source[begin:]
        return begin + len(text.encode()[:column].decode())  # ast counts bytes

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    tree = ast.parse(source)
    for node in ast.walk(tree):
        yield from _of(node, source, span)


def _of(node: ast.AST, source: str, span) -> Iterator[Change]:  # type: ignore[no-untyped-def]
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        start, end = span(node.left)[1], span(node.comparators[0])[0]
        sign = FLIPPED[type(node.ops[0])]
        yield Change(start, end, f" {sign} ", "comparison")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start, end = span(node)
        inner, stop = span(node.operand)
        yield Change(start, end, f"({source[inner:stop]})", "not")
    elif isinstance(node, ast.BoolOp):
        first, second = span(node.values[0])[1], span(node.values[1])[0]
        other = "or" if isinstance(node.op, ast.And) else "and"
        between = re.sub(r"\b(and|or)\b", other, source[first:second])
        if len(node.values) == 2:
            yield Change(first, second, between, "and/or")
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        start, end = span(node)
        yield Change(start, end, str(node.value + 1), "off by one")
    elif isinstance(node, ast.Constant | ast.JoinedStr) and (span(node)[1] - span(node)[0]) > 4:
        start, end = span(node)
        yield from _in_scripts(source, start, end)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield Change(*span(node), "pass", "dropped statement")


def _in_scripts(source: str, start: int, end: int) -> Iterator[Change]:
    text = source[start:end]
    for found, instead in SHELL:
        place = text.find(found)
        while place >= 0:
            yield Change(start + place, start + place + len(found), instead, f"{found.strip()} in a script")
            place = text.find(found, place + 1)


def draw(seed: int, count: int) -> list[Mistake]:
    """So many mistakes, always the same ones for a seed."""
    chance = random.Random(seed)
    made: dict[str, Mistake] = {}
    while len(made) < count:
        file = chance.choice(sorted(MODULES))
        source = (REPOSITORY / file).read_text()
        change = chance.choice(list(changes(source)))
        mistake = _mistake(file, source, change)
        if mistake:
            made[mistake.id] = mistake
    return list(made.values())


def _mistake(file: str, source: str, change: Change) -> Mistake | None:
    """None where it changes nothing, or can't be read."""
    changed = source[: change.start] + change.text + source[change.end :]
    try:
        if ast.dump(ast.parse(source)) == ast.dump(ast.parse(changed)):
            return None
    except SyntaxError:
        return None
    line = source.count("\n", 0, change.start) + 1
    name = f"{file.removeprefix('fabfile/')}:{line} {change.operator} @{change.start}"
    # All of the text, since what is changed must be found once only.
    return Mistake(name, change.operator, file, source, changed, MODULES[file])
