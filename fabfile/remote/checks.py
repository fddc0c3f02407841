"""What the checks ask, and what they get, from whichever side answers."""

from __future__ import annotations

import stat as modes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .answers import decimal, not_understood

READ_LIMIT = 1 << 20  # bytes; what is read are links, records and nonces


@dataclass(frozen=True)
class Stat:
    """What lstat says: `kind` is file, dir, link or other; `mode` its permission bits; `size` bytes."""

    kind: str
    mode: int
    size: int


@dataclass(frozen=True)
class PathInfo:
    """A path at a glance: what lstat says (None: nothing is there), and a link's target."""

    stat: Stat | None
    target: str | None


@dataclass(frozen=True)
class Space:
    """Room on a file system: bytes and inodes free for this account. None: it does not count them."""

    free: int
    free_inodes: int | None


Final = Callable[[dict[str, PathInfo]], bool]


class Checks(Protocol):
    """The questions; paths are absolute, as the shell calls them."""

    def lstat(self, path: str) -> Stat | None:
        """None where there is nothing."""

    def readlink(self, path: str) -> str | None:
        """Where the link points, as written; None where there is no link."""

    def look(self, paths: Sequence[str]) -> dict[str, PathInfo]:
        """lstat and readlink of all these paths, in one round trip."""

    def realpath(self, path: str) -> str | None:
        """The path without links; None where it leads nowhere."""

    def listing(self, path: str) -> list[str] | None:
        """The names in a directory, sorted; None where there is none."""

    def read(self, path: str) -> bytes | None:
        """A small file's content, at most READ_LIMIT bytes; None where there is none."""

    def space(self, path: str) -> Space:
        """The room on the file system that holds `path`."""


def parse_space(text: str) -> Space:
    """Read `df -Pk PATH; df -Pi PATH`: the fourth column is what is free. A `-` or 0 of 0: not counted.

    Raises AnswerNotUnderstood.
    """
    rows = [line.split() for line in text.splitlines() if not line.startswith("Filesystem")]
    rows = [row for row in rows if len(row) >= 6]
    try:
        inodes = rows[1] if len(rows) > 1 and rows[1][1] not in ("-", "0") else None
        return Space(_free(rows[0][3]) * 1024, _free(inodes[3]) if inodes else None)
    except (ValueError, IndexError):
        raise not_understood("The answer of df", text) from None


def _free(column: str) -> int:
    # What is reserved for root counts as less than nothing for everybody else.
    return 0 if column.startswith("-") and decimal(column[1:]) else decimal(column)


def kind_of(mode: int) -> str:
    """file, dir, link or other, of a raw mode."""
    if modes.S_ISREG(mode):
        return "file"
    if modes.S_ISDIR(mode):
        return "dir"
    return "link" if modes.S_ISLNK(mode) else "other"
