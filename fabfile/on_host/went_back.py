"""What a dead man's switch has done on the host: it writes that down, and the next command tells it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..remote.answers import decimal
from ..remote.script_files import quote
from .layout import RELEASE_ID, Layout

NAME = "went-back"  # in .switchover; one line: time, release that was left, hooks, number
NONE, BEGUN, OK, FAILED = "none", "begun", "ok", "failed"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class WentBack(NamedTuple):
    """time: UTC, ISO 8601. left: the release that was live before it. hooks: what became of after_switch in
    the release that is live again: none, begun (the end was not seen), ok or failed, at the hook `number`.
    """

    time: str
    left: str
    hooks: str
    number: int

    @classmethod
    def loads(cls, line: str) -> WentBack:
        """Read what session/scripts/deadman.sh has written. Raises ValueError on anything else."""
        time, left, hooks, number = line.split("\t")
        if not _TIME.fullmatch(time) or not RELEASE_ID.fullmatch(left):
            raise ValueError("neither a time nor a release")
        if hooks not in (NONE, BEGUN, OK, FAILED):
            raise ValueError("nothing that can become of hooks")
        return cls(time, left, hooks, decimal(number))

    def __str__(self) -> str:
        became = {
            NONE: "",
            BEGUN: f"; it is not known whether its after_switch hook {self.number} has ended",
            OK: "; its after_switch hooks have run",
            FAILED: f"; its after_switch hook {self.number} failed",
        }
        return (
            f"the dead man's switch left {self.left} on {self.time}, since nothing was heard of its command, "
            f"and put back what was live before{became[self.hooks]}"
        )


def file(layout: Layout) -> str:
    """Where the host writes it down."""
    return f"{layout.own}/{NAME}"


def forgetting(layout: Layout) -> str:
    """The command for when a release has gone live and stayed: what was before is no news any more."""
    return f"rm -f {quote(file(layout))}"
