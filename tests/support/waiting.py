"""Waiting for something to happen, always with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def eventually(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Wait until `condition` holds, at the longest `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


class Barrier:
    """Holds a hook on the host until the test lets it go."""

    def __init__(self, folder: Path) -> None:
        self.reached = folder / "reached"
        self.opened = folder / "open"

    @property
    def hook(self) -> str:
        """A shell command that says it is there, and waits: at the longest 60 s."""
        return (
            f"touch {self.reached}; n=0; "
            f"while [ ! -e {self.opened} ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done"
        )

    def wait(self) -> None:
        """Until the hook runs."""
        eventually(self.reached.exists, "the hook runs")

    def open(self) -> None:
        """Let it go on."""
        self.opened.touch()
