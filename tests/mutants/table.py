"""The mistakes: what is changed in which file, and which tests must notice. They stand in mistakes/*.toml."""

from __future__ import annotations

import ast
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
MISTAKES = Path(__file__).with_name("mistakes")
KEYS = {"id", "says", "file", "old", "new", "tests", "harmless"}


@dataclass(frozen=True)
class Mistake:
    """`old` in `file` becomes `new`; `tests`: pytest's arguments, one selection each, of which one must fail.

    says: what is wrong then, in one sentence. harmless: why it changes nothing that a user could see, where
    that is so; no test is asked then.
    """

    id: str
    says: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    harmless: str = ""

    @property
    def arguments(self) -> list[str]:
        """What pytest is called with."""
        return [word for selection in self.tests for word in shlex.split(selection)]

    def applied(self, text: str) -> str:
        """The file's text with the mistake in it. Raises ValueError where it no longer applies."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.id} no longer applies: its text is {found} times in {self.file}")
        changed = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            ast.parse(changed)  # a mistake that can't even be read proves nothing
        return changed


def load(folder: Path = MISTAKES) -> list[Mistake]:
    """All mistakes, by file and place in it. Raises ValueError for an entry that is not whole."""
    found: list[Mistake] = []
    for path in sorted(folder.glob("*.toml")):
        found += [_mistake(entry, path.name) for entry in tomllib.loads(path.read_text())["mistake"]]
    twice = {m.id for m in found if [x.id for x in found].count(m.id) > 1}
    if twice:
        raise ValueError(f"two mistakes have the id {', '.join(sorted(twice))}")
    return found


def _mistake(entry: dict[str, Any], name: str) -> Mistake:
    label = f"{name}: {entry.get('id', entry)}"
    if unknown := entry.keys() - KEYS:
        raise ValueError(f"{label}: unknown keys {sorted(unknown)}")
    if missing := {"id", "says", "file", "old", "new"} - entry.keys():
        raise ValueError(f"{label}: {sorted(missing)} missing")
    if bool(entry.get("tests")) == bool(entry.get("harmless")):
        raise ValueError(f"{label}: either `tests` or `harmless`")
    return Mistake(**{**entry, "tests": tuple(entry.get("tests", ()))})


def outdated(mistakes: list[Mistake], root: Path = REPOSITORY) -> list[str]:
    """Why mistakes no longer apply, one line each."""
    problems = []
    for mistake in mistakes:
        try:
            mistake.applied((root / mistake.file).read_text())
        except (ValueError, OSError, SyntaxError) as problem:
            problems.append(f"{mistake.id}: {problem}")
    return problems
