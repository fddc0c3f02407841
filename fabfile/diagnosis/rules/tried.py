"""What came of trying a deployment's work on the host's file systems, as the script told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import NO_SPACE, classify
from ...on_host.layout import Layout

Rows = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Failure:
    """A step that failed. step: mkdir, write, chmod, rename or remove. free: KiB. said: the last words."""

    folder: str
    step: str
    whose: str
    free: int | None
    inodes: int | None
    said: str

    @property
    def reason(self) -> str:
        """One of errors' reasons, or ""."""
        return classify(self.said)

    @property
    def no_inodes(self) -> bool:
        """Whether it is inodes that are missing, where there is no space left."""
        return self.reason == NO_SPACE and self.inodes == 0

    def __str__(self) -> str:
        return f"{self.step} in {self.folder}: {self.said} (it belongs to {self.whose or '?'})"


@dataclass(frozen=True)
class Tried:
    """All that was tried. at: deploy_to, or the nearest folder above it that is there."""

    rows: Rows
    layout: Layout
    user: str
    failures: tuple[Failure, ...]

    @classmethod
    def of(cls, rows: Rows, layout: Layout, user: str) -> Tried:
        failures = []
        for row in rows.get("failed", ()):
            parts = [*row.split("\t"), *[""] * 6][:6]
            free, inodes = (int(text) if text.isdigit() else None for text in parts[3:5])
            failures.append(Failure(parts[0], parts[1], parts[2], free, inodes, parts[5]))
        return cls(rows, layout, user, tuple(failures))

    def first(self, key: str) -> str:
        """The first value of `key`, or ""."""
        return next(iter(self.rows.get(key, ())), "")

    @property
    def at(self) -> str:
        return self.first("at")

    def column(self, key: str, number: int) -> int | None:
        """A number of a `df` line; None where it has none."""
        words = self.first(key).split()
        return int(words[number]) if len(words) > number and words[number].isdigit() else None

    @property
    def free(self) -> int | None:
        """Bytes that are free."""
        free = self.column("df", 3)
        return None if free is None else free * 1024

    @property
    def inodes(self) -> int | None:
        """Inodes that are free; None where the file system does not count them."""
        return self.column("dfi", 3) if self.column("dfi", 1) else None

    @property
    def denied(self) -> Failure | None:
        """Why nothing can be made at all, where that is so."""
        for step in ("mkdir", "write", "files"):
            if (said := self.first(step)) not in ("ok", ""):
                free = None if self.free is None else self.free // 1024
                inodes = 0 if self.inodes is not None and (free or 0) > 2048 else self.inodes
                return Failure(self.at, step, self.first("whose"), free, inodes, said)
        return None
