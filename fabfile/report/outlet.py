"""Standard output and error, as what can neither fail the work nor hold it up.

A reader may have gone, a disk may be full, a terminal may hang or know no more than ASCII: what can't be
printed decides nothing. A thread writes; what waits for it is bounded; what could not be written is known at
the end.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import sys
import threading
from collections import deque
from typing import Any, TextIO

CAPACITY = 4 << 20  # bytes that may wait for a slow reader; beyond it lines are left out, and counted
PATIENCE = 15.0  # seconds that a reader may take nothing, at the end
AT_ONCE = 4096  # bytes in one write: what a pipe that is ready takes whole

_ASCII = {
    "✓": "ok", "✗": "x", "→": "->", "│": "|", "·": "-", "…": "...", "━": "=", "•": "*", "’": "'", "“": '"',
    "”": '"', "–": "-", "—": "-", "×": "x", "─": "-",
}  # fmt: skip


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Our own marks in letters, all else by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(
        _ASCII.get(char, char.encode("ascii", "backslashreplace").decode()) for char in bad
    ), error.end


codecs.register_error("switchover", _in_ascii)


class Outlet:
    """A file to print to: `write` never raises and never waits."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.failure: Exception | None = None
        self.left_out = 0  # pieces that found no room
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._written = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str, *, always: bool = False) -> int:
        """Have it written; always: whatever room it takes."""
        data = text.encode(self.encoding, "switchover")
        if self._descriptor is None:
            self._write_here(text)
            return len(text)
        with self._changed:
            if self.failure is not None:
                return len(text)
            if not always and self._size + len(data) > CAPACITY:
                self.left_out += 1
                return len(text)
            self._waiting.append(data)
            self._size += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """What is written is on its way."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with contextlib.suppress(Exception):
            return bool(self._stream is not None and self._stream.isatty())
        return False

    def fileno(self) -> int:
        """See io.IOBase.fileno."""
        if self._descriptor is None:
            raise OSError("no descriptor")
        return self._descriptor

    def drain(self, patience: float | None = None) -> bool:
        """Wait until all is written, as long as the reader goes on taking some; whether it is."""
        with self._changed:
            while self._size and self.failure is None:
                before = self._written
                self._changed.wait_for(
                    # mypy can't infer a lambda with a default
                    lambda before=before: not self._size or self._written != before or self.failure,  # type: ignore[misc]
                    PATIENCE if patience is None else patience,
                )
                if self._size and self._written == before and self.failure is None:
                    self.failure = TimeoutError("whoever reads it takes no more")
            return self.failure is None and not self.left_out

    def _write_here(self, text: str) -> None:
        """For a stream that is no file of the system's: a test's, or None."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the work)
                self.failure = error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting.popleft()
            try:
                self._put(data)
            except (OSError, ValueError) as error:
                with self._changed:
                    self.failure = error
                    self._waiting.clear()
                    self._changed.notify_all()
                return

    def _put(self, data: bytes) -> None:
        assert self._descriptor is not None
        while data:
            try:
                done = os.write(self._descriptor, data[:AT_ONCE])
            except BlockingIOError:  # whoever started us has made it so
                select.select([], [self._descriptor], [], 1.0)
                continue
            data = data[done:]
            with self._changed:
                self._size -= done
                self._written += done
                self._changed.notify_all()


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        assert stream is not None
        stream.flush()
        return stream.fileno()
    except Exception:  # noqa: BLE001  (closed, None, or no file at all)
        return None


_outlets: dict[bool, tuple[Any, Outlet]] = {}


def outlet(to_stderr: bool = False) -> Outlet:
    """The one for standard output, or error."""
    stream = sys.stderr if to_stderr else sys.stdout
    known = _outlets.get(to_stderr)
    if known is None or known[0] is not stream:
        known = _outlets[to_stderr] = (stream, Outlet(stream))
    return known[1]


def open_standard_streams() -> None:
    """Put /dev/null where standard input, output or error was closed: else the next connection takes its
    place, and is printed into.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            file = open(descriptor, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, file)
