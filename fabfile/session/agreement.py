"""Whether shell and SFTP see the same tree: the shell has just written what SFTP is to see."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from concurrent.futures import Future

from ..errors import FilesError
from ..on_host.layout import Layout
from ..on_host.lock import Lock
from ..remote.host import Host


def agree(host: Host, layout: Layout, lock: Lock, warm: Future[None]) -> str:
    """Find out which side answers checks, in a phrase for a person; where SFTP does not see what the shell
    sees they go over SSH. warm: done when SFTP is open. Raises FilesError where SFTP is required.
    """
    warm.result()
    files = host.files
    if not files.uses_sftp:
        return "checks over SSH, as ssh.sftp: off says"
    why = f"SFTP does not see {lock.token_link}, which the shell has just written"
    try:
        if files.sftp.readlink(lock.token_link) == lock.owner.token:
            return "shell and SFTP agree"
        if root := _chroot(host, layout, lock):
            return f"shell and SFTP agree; SFTP's / is {root}"
    except FilesError as error:
        why = f"{error.what} {error.why}"
    files.fall_back(why)
    return "checks over SSH"


def _chroot(host: Host, layout: Layout, lock: Lock) -> str:
    """The directory that SFTP calls /, if a chroot is all that keeps the views apart; "" if it is not."""
    sftp = host.files.sftp
    if sftp.root:
        return ""
    for candidate in _upwards(layout.deploy_to):
        sftp.root = candidate
        if sftp.readlink(lock.token_link) == lock.owner.token:
            return candidate
    sftp.root = None
    return ""


def _upwards(path: str) -> Iterator[str]:
    while path and path != "/":
        yield path
        path = posixpath.dirname(path)
