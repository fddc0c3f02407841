"""The host that is deployed to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.filesystems import image
from tests.support.sshd import Sshd

ROOM = 24 << 30  # bytes; only what is written takes any
DISK = "disk"


@contextmanager
def host(*, reflinks: bool = False) -> Iterator[Sshd]:
    """A real sshd, and for its sites a fresh XFS where this machine can make one (root, xfsprogs).

    ext4 does not take inodes again that were freed a moment ago, and searches ever longer for others: whoever
    comes after a large removal pays for it, by a factor of up to nine here.
    """
    with Sshd() as server:
        if os.geteuid() != 0 or not shutil.which("mkfs.xfs"):
            yield server
            return
        make = ("mkfs.xfs", "-q", "-f", "-m", f"reflink={int(reflinks)}")
        with image(server.root / DISK, *make, size=ROOM) as disk:
            server.give(disk)
            yield server


def new_site(server: Sshd, name: str) -> Path:
    """An empty directory for a site."""
    on_disk = (server.root / DISK).is_dir()
    return server.new_dir(f"{DISK}/{name}-" if on_disk else f"{name}-")
