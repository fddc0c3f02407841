"""What each way to bring files to a host has to offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...on_host.manifest import Entry
from ..source.source import Source

# files, bytes: how much has been sent so far
Tally = Callable[[int, int], None]


class Transfer(Protocol):
    """A way to fill a staging directory."""

    name: str

    def send(self, source: Source, entries: Sequence[Entry], staging: str, tally: Tally) -> None:
        """Put `entries` (files and links) of `source` below `staging`, over what may be there of them.

        A file's mode and time are set after its last byte. Raises LinkLost when the link dies: the
        caller reconnects, looks what has arrived, and sends the rest.
        """
