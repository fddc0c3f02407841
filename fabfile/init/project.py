"""A project, and reading what tells its kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READ = 1 << 20  # bytes of a project's file that are looked at


@dataclass(frozen=True)
class Project:
    """What was found.

    kind: for people. path: what is deployed, relative to the folder. git: whether it may be deployed from
    commits. root: what the web server has to serve, inside a release. secrets: files that the host has of its
    own. built: local_build; prepared: before_switch. advice: lines for people, beside after_switch.
    """

    kind: str
    path: str = "."
    git: bool = False
    root: str = ""
    exclude: tuple[str, ...] = ()
    dirs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    built: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    php: bool = False
    advice: tuple[str, ...] = ()


def text(path: Path) -> str:
    """The beginning of a file; "" where there is none that can be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(READ).decode("utf-8", "replace")
    except OSError:
        return ""


def keys(path: Path) -> dict[str, Any]:
    """A JSON file's top level; {} where it is none."""
    try:
        found = json.loads(text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
