"""What a host has: folders to deploy to, the web server's account, PHP-FPM."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from ..remote.answers import PATH_LIMIT, not_understood
from ..remote.host import Host
from ..remote.script_files import Scripts

MOST = 50  # sites of one folder that are looked at
PATIENCE = 60.0  # seconds
_FIELDS = {"home": 1, "parent": 1, "site": 2, "web": 1, "fpm": 1, "may": 1, "end": 0}
_KINDS = ("releases", "folder", "empty")
_PATH = re.compile(r"(?:/[^/\x00-\x1f\x7f\ud800-\udfff]+)+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?")

_scripts = Scripts(__package__)


@dataclass(frozen=True)
class Site:
    """A folder on the host. kind: releases (a layout as ours), folder (of files), empty."""

    kind: str
    path: str


@dataclass(frozen=True)
class Seen:
    """What one host has. parents: folders in which we may make one; may: services that we may reload."""

    name: str
    home: str
    parents: tuple[str, ...]
    sites: tuple[Site, ...]
    web: str
    fpm: tuple[str, ...]
    may: frozenset[str]


def look(host: Host) -> Seen:
    """Connect, and look around. Raises what connecting raises, and AnswerNotUnderstood."""
    script = _scripts("look_around", most=MOST)
    return parse(host.name, host.shell.run(script, what="Looking around", timeout=PATIENCE).text)


def parse(name: str, text: str) -> Seen:
    """What the script printed. Raises AnswerNotUnderstood for anything else."""
    rows = [line.split("\t") for line in text.splitlines()]
    if not rows or rows[-1] != ["end"] or not all(_is_row(row) for row in rows):
        raise not_understood("What the host says about its sites", text)
    values = {key: [row[-1] for row in rows if row[0] == key] for key in _FIELDS}
    return Seen(
        name,
        next(iter(values["home"]), ""),
        tuple(dict.fromkeys(values["parent"])),
        tuple(dict.fromkeys(Site(row[1], row[2]) for row in rows if row[0] == "site")),
        next(iter(values["web"]), ""),
        tuple(values["fpm"]),
        frozenset(values["may"]),
    )


def _is_row(row: list[str]) -> bool:
    key, *values = row
    if _FIELDS.get(key) != len(values):
        return False
    if key == "site" and values[0] not in _KINDS:
        return False
    if key == "end":
        return True
    last = values[-1]
    if key in ("home", "parent", "site"):
        return len(last) <= PATH_LIMIT and bool(_PATH.fullmatch(last)) and posixpath.normpath(last) == last
    return bool(_NAME.fullmatch(last))
