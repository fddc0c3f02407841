"""Ways to bring files into a staging directory on the host.

What happens to the files there is the same for all (see ../apply.py), so a transfer that is cut leaves
nothing but a staging directory, from which the next attempt goes on (see ../upload.py).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from ...errors import ConfigError, HostNotReady
from ...remote.host import Host
from ...site.manifest import Entry
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


@dataclass(frozen=True)
class Choice:
    """The transfer that will be used, and why that one."""

    transfer: Transfer
    why: str


def check_installed(wanted: str) -> None:
    """Raises ConfigError where a transfer was asked for that an installation by pip does not bring along."""
    if wanted == "rsync" and (missing := not_installed()):
        raise ConfigError(
            "transfer: rsync needs what is not installed here.",
            f"there is no {' and no '.join(missing)} for {sys.executable}",
            f"Type this, or set transfer: stream, which needs neither:\n{_install_line()}",
        )


def not_installed() -> list[str]:
    """What of the extra `rsync` is missing. patchwork is looked for, not imported: that takes a `six`."""
    return [name for name in ("patchwork", "six") if find_spec(name) is None]


def _install_line() -> str:
    """What installs the extra into this Python: without a resolver, for patchwork says fabric<3."""
    pip = [sys.executable, "-m", "pip", "install"]
    uv = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*(pip if find_spec("pip") else uv), "--no-deps", "patchwork>=1.0.1,<2", "six>=1.16"])


def choose(host: Host, wanted: str) -> Choice:
    """The transfer that settings ask for; `auto` takes the best that this host can do."""
    from .rsync import RsyncTransfer
    from .sftp import SftpTransfer
    from .stream import StreamTransfer

    if wanted == "stream":
        host.need("tar", "transfer: stream unpacks a tar there")
        return Choice(StreamTransfer(host), "asked for")
    if wanted == "rsync":
        rsync = RsyncTransfer(host)
        if reason := rsync.unfit():
            raise HostNotReady(
                f"transfer: rsync can't be used with {host.name}.", reason, "Set transfer: auto."
            )
        return Choice(rsync, "asked for")
    if wanted == "sftp":
        return Choice(SftpTransfer(host), "asked for")
    if host.has("tar"):
        return Choice(StreamTransfer(host), "auto: the host has tar")
    if not RsyncTransfer(host).unfit():
        return Choice(RsyncTransfer(host), "auto: the host has no tar, but rsync")
    return Choice(SftpTransfer(host), "auto: the host has neither tar nor a usable rsync")
