"""Mistakes and where they stand: FILE:LINE: key.path: what was found; what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError
from .values import CONTROL

Loc = tuple[str | int, ...]

UNREADABLE = object()  # stands for a value that was reported already, so nobody reports it again


class Mistake(NamedTuple):
    """One line of the ConfigError."""

    line: int
    text: str


class Position(NamedTuple):
    """Where a value was given: `where` is FILE:LINE or the command line, `text` a scalar as written."""

    where: str
    line: int
    key: str
    text: str | None = None

    def mistake(self, text: str) -> Mistake:
        return Mistake(self.line, ": ".join(part for part in (self.where, self.key, text) if part))


class Layer(NamedTuple):
    """Plain data, and the places of its values; the place of () is always known."""

    data: dict[str, Any]
    places: dict[Loc, Position]

    def place(self, loc: Loc) -> Position:
        """What has no place of its own (a missing key) stands where its section does."""
        known = next(n for n in range(len(loc), -1, -1) if loc[:n] in self.places)
        place = self.places[loc[:known]]
        return place._replace(key=dotted(loc[known:], place.key))


def config_error(mistakes: Sequence[Mistake]) -> ConfigError:
    """All of them at once: each once, in the order of the file."""
    in_order = sorted(dict.fromkeys(mistakes), key=lambda each: each.line)
    count = "1 mistake" if len(in_order) == 1 else f"{len(in_order)} mistakes"
    return ConfigError(
        f"The configuration has {count}; nothing was contacted.",
        why="\n".join(_visible(mistake.text) for mistake in in_order),
        hint="config.example.yaml documents every key.",
    )


def dotted(loc: Loc, start: str = "") -> str:
    """('hosts', 0, 'port') -> hosts[0].port"""
    for part in loc:
        start += f"[{part}]" if isinstance(part, int) else f".{part}" if start else part
    return start


def found(value: object, text: str | None = None) -> str:
    """`found …` with the value as it was written, and what YAML took it for."""
    if value is None:
        return "found nothing"
    if isinstance(value, Mapping):
        return "found a mapping"
    if isinstance(value, list | tuple):
        return "found a list"
    if isinstance(value, str):
        return f'found "{short(value)}"'
    kind = {bool: "a truth value", int: "a number", float: "a number"}.get(type(value), "a date")
    return f"found {short(text or str(value))} ({kind})"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    near = near or difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def short(text: str) -> str:
    """At most 60 characters."""
    return text if len(text) <= 60 else text[:59] + "…"


def _visible(text: str) -> str:
    """One line that any terminal can show: control characters as \\n, \\x00, …"""
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)
