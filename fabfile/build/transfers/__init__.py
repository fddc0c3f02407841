"""Ways to bring files into a staging directory on the host.

What happens to the files there is the same for all (see ../apply.py), so a transfer that is cut leaves
nothing but a staging directory, from which the next attempt goes on (see ../upload.py).
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import HostNotReady
from ...remote.host import Host
from .installed import check_installed
from .transfer import Tally, Transfer

__all__ = ["Choice", "Tally", "Transfer", "check_installed", "choose"]


class Choice(NamedTuple):
    """The transfer that will be used, and why that one."""

    transfer: Transfer
    why: str


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
