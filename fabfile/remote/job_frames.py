"""What follow_job.sh prints: the log of a job in pieces, and how the job ended.

All of it comes on stdout, each piece behind a line of a mark and its size. So nothing that a job prints is
taken for ours, and nothing else for the job's: some hosts join stderr to stdout.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .output import Kept

HEADER = 64  # bytes; a mark, a size and a newline are shorter


class JobFrames:
    """Reads it as it comes. mark: hex digits that nobody else knows; sink: receives the bytes of the log.

    ending: "" until it is told, then `ended STATUS`, `late`, `gone` or `unclaimed`.
    """

    def __init__(self, mark: str, sink: Callable[[bytes], None]) -> None:
        self.sink = sink
        self.ending = ""
        self._header = re.compile(
            rb"%s (?:([0-9]{1,18})|(ended [0-9]{1,3}|late|gone|unclaimed))\n" % mark.encode()
        )
        self._left = 0  # bytes of the piece that is being read
        self._unread = b""
        self._outside = Kept("", None)

    @property
    def outside(self) -> bytes:
        """The end of what stands outside of all pieces."""
        return bytes(self._outside.data) + self._unread

    def feed(self, block: bytes) -> None:
        """Take a block more."""
        self._unread += block
        while self._take_piece() or self._take_header():
            pass

    def _take_piece(self) -> bool:
        piece, self._unread = self._unread[: self._left], self._unread[self._left :]
        self._left -= len(piece)
        if piece:
            self.sink(piece)
        return bool(piece)

    def _take_header(self) -> bool:
        found = None if self._left else self._header.search(self._unread)
        # Without one, its beginning may be there.
        begin, end = found.span() if found else (max(0, len(self._unread) - HEADER),) * 2
        self._outside.feed(self._unread[:begin])
        self._unread = self._unread[end:]
        if found:
            self._left = int(found[1] or 0)
            self.ending = found[2].decode() if found[2] else self.ending
        return found is not None
