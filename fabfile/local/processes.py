"""Programs that run here, each in a session of its own, so that all that it has started can be ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


@contextmanager
def running(words: Sequence[str | os.PathLike[str]], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program without a terminal, so that neither it nor what it starts can wait for a person.

    how: as for subprocess.Popen. A program that still runs at the end of the block is ended, with its whole
    process group. Raises OSError where it can't be started.
    """
    how.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen(words, start_new_session=True, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a running program and what it has started: SIGTERM, and SIGKILL for what does not listen."""
    _signal(process, signal.SIGTERM)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
