"""What a command prints, read to its end, and never more of it kept than was allowed."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable

from ..errors import CommandFailed, SwitchoverError
from .connection import LINK_ERRORS

ANSWER = 8 << 20  # bytes; what is parsed is shorter, unless the caller says otherwise
TAIL = 1 << 16  # bytes kept of what may be of any length
NOISE = 1 << 20  # bytes before our mark: start-up files that print
LINE = 1 << 16  # characters; longer lines are cut
CUT = " … (cut)"


class Kept:
    """Output that is kept: at most `most` bytes, else CommandFailed is raised; with None the last TAIL."""

    def __init__(self, what: str, most: int | None) -> None:
        self.what = what
        self.most = most
        self.data = bytearray()

    def feed(self, block: bytes) -> None:
        """Take a block more."""
        self.data += block
        if self.most is None:
            if len(self.data) > 2 * TAIL:
                del self.data[:-TAIL]
        elif len(self.data) > self.most:
            raise too_much(self.what, self.most)


def too_much(what: str, most: int) -> CommandFailed:
    """The error for an answer without end."""
    return CommandFailed(
        f"{what}: the host said too much.",
        f"more than {most} bytes came, where a much shorter answer was to be expected",
        "See what the account's start-up files and the command print there.",
    )


class Drain:
    """Reads one stream of a channel to its end, in a thread of its own.

    marker: what comes before it is dropped. sink: receives each block behind it as it comes; what it raises
    of ours ends the reading and stands in `error` then. most: see Kept; total: bytes after which it is too
    much in any case, None for no end.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        what: str = "The command",
        marker: bytes = b"",
        sink: Callable[[bytes], None] | None = None,
        most: int | None = ANSWER,
        total: int | None = None,
    ) -> None:
        self.read = read
        self.what = what
        self.marker = marker
        self.sink = sink
        self.total = total
        self.count = 0
        self.kept = Kept(what, most)
        self.noise = bytearray()  # all before the marker; everything where it never came
        self.error: SwitchoverError | None = None
        self.started = threading.Event()  # the marker has come, or never will
        self.ended = threading.Event()
        if not marker:
            self.started.set()
        threading.Thread(target=self._drain, daemon=True).start()

    @property
    def marked(self) -> bool:
        """Whether the marker has come."""
        return not self.marker

    @property
    def data(self) -> bytes:
        """What is kept."""
        return bytes(self.kept.data)

    def _drain(self) -> None:
        try:
            while True:
                try:
                    block = self.read(1 << 16)
                except TimeoutError:
                    continue
                if not block:
                    break
                self._take(block)
        except LINK_ERRORS:
            pass  # the channel is gone; whoever waits sees the missing exit status
        except SwitchoverError as error:
            self.error = error
        finally:
            self.started.set()
            self.ended.set()

    def _take(self, block: bytes) -> None:
        if self.marker:
            found = self._search(block)
            if found is None:
                return
            block = found
        self.count += len(block)
        if self.total is not None and self.count > self.total:
            raise too_much(self.what, self.total)
        if block:
            self.kept.feed(block)
            if self.sink:
                self.sink(block)

    def _search(self, block: bytes) -> bytes | None:
        """What stands behind the marker; None where it has not come yet."""
        begin = max(0, len(self.noise) - len(self.marker))
        self.noise += block
        at = self.noise.find(self.marker, begin)
        if at < 0:
            if len(self.noise) > NOISE:
                raise too_much(self.what, NOISE)
            return None
        behind = bytes(self.noise[at + len(self.marker) :])
        del self.noise[at:]
        self.marker = b""
        self.started.set()
        return behind


class Lines:
    """Cuts a stream of bytes into lines of text; a character may come in two pieces."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.partial = ""
        self.cut = False  # this line was told already, as far as it is shown

    def feed(self, block: bytes) -> None:
        """Tell each line that is complete now."""
        *lines, self.partial = (self.partial + self.decoder.decode(block)).split("\n")
        for line in lines:
            self._line(line.rstrip("\r"))
            self.cut = False
        if len(self.partial) > LINE:
            self._line(self.partial)
            self.cut, self.partial = True, ""

    def end(self) -> None:
        """Tell what has no newline behind it."""
        if self.partial:
            self._line(self.partial)
        self.partial, self.cut = "", False

    def _line(self, line: str) -> None:
        if not self.cut:
            self.tell(line if len(line) <= LINE else line[:LINE] + CUT)
