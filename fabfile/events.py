"""What the work tells about itself while it goes on.

Nothing below cli/ and report/ prints. It emits these, and a report listens.
Events come from several threads at once, one a host: a listener must be thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SHOWN = 10  # paths named in a message


@dataclass(frozen=True)
class StepStarted:
    """A named step ("upload", "switch", …) has begun on `host`."""

    host: str
    step: str


@dataclass(frozen=True)
class StepFinished:
    """A step has ended well. `detail` is one short phrase for a person, or ""."""

    host: str
    step: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class StepFailed:
    """A step has failed."""

    host: str
    step: str
    seconds: float
    what: str


@dataclass(frozen=True)
class Progress:
    """How far a transfer is; `done` and `total` in bytes, `files` counted."""

    host: str
    step: str
    files: int
    total_files: int
    done: int
    total: int


@dataclass(frozen=True)
class Output:
    """A line that a hook printed."""

    host: str
    step: str
    line: str


@dataclass(frozen=True)
class Note:
    """Something a person should know: level "info" or "warn"."""

    host: str
    level: str
    text: str


@dataclass(frozen=True)
class Waiting:
    """Something takes its time: `passed` of `total` seconds are over. what: what is waited for."""

    host: str
    what: str
    passed: float
    total: float


Event = StepStarted | StepFinished | StepFailed | Progress | Output | Note | Waiting
Listener = Callable[[Event], None]


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """Bytes for a person: `18 bytes`, `1.2 MB`."""
    import humanize  # here: scripts that print nothing need it not

    return str(humanize.naturalsize(count)).replace("Byte", "byte")


def shorten_list(paths: Sequence[str]) -> str:
    """The first of these paths, and how many there are besides, for a message."""
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(repr(path) for path in paths[:SHOWN]) + rest


def silent(event: Event) -> None:
    """A listener that does nothing: the default for scripts."""
