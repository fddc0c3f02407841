"""The files of the embedded server over SFTP, with OpenSSH's answers where asyncssh's differ."""

# SFTP paths are bytes, which pathlib does not take.
# ruff: noqa: PTH104, PTH114, PTH115, PTH118, PTH120, PTH211

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import asyncssh

LINKS_MAX = 40  # as the kernel's


class Files(asyncssh.SFTPServer):
    """The file system over SFTP, with OpenSSH's answers where asyncssh's differ.

    Relative paths begin at home, links are written and read as they are, and under a root every link is
    resolved as if that root were /.
    """

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], home: Path, root: Path | None) -> None:
        super().__init__(channel, os.fsencode(root) if root else None)
        self._home = os.fsencode(home)
        self._root = os.path.realpath(os.fsencode(root)) if root else None

    def map_path(self, path: bytes) -> bytes:
        """The local path, with the last component's own link left alone."""
        if self._root is None:
            return os.path.join(self._home, path)
        return resolve(self._root, path, follow=False)

    def _followed(self, path: bytes) -> bytes:
        """The path as the client would call it once its links are followed."""
        if self._root is None:
            return path
        return self.reverse_map_path(resolve(self._root, path, follow=True))

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        """Open a file; an exclusive creation follows no link."""
        return super().open(path if pflags & asyncssh.FXF_EXCL else self._followed(path), pflags, attrs)

    def stat(self, path: bytes) -> Any:
        return super().stat(self._followed(path))

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> Any:
        return super().setstat(self._followed(path), attrs)

    def scandir(self, path: bytes) -> Any:
        return super().scandir(self._followed(path))

    def statvfs(self, path: bytes) -> Any:
        return super().statvfs(self._followed(path))

    def realpath(self, path: bytes) -> bytes:
        """The canonical path; only its last component may be missing."""
        real = os.path.realpath(self.map_path(self._followed(path)))
        if not os.path.lexists(os.path.dirname(real)):
            raise asyncssh.SFTPNoSuchFile("No such file")
        return self.reverse_map_path(real)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, unless anything has the new name, a dead link included."""
        target = self.map_path(newpath)
        if os.path.lexists(target):
            raise asyncssh.SFTPFileAlreadyExists("File already exists")
        os.rename(self.map_path(oldpath), target)

    def readlink(self, path: bytes) -> bytes:
        """The link's text as it stands."""
        return os.readlink(self.map_path(path))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """A link with exactly this text."""
        os.symlink(oldpath, self.map_path(newpath))


def resolve(root: bytes, path: bytes, *, follow: bool) -> bytes:
    """Where `path` leads for a process whose / is `root`, links included.

    follow: whether the last component's own link is followed too.
    """
    todo = path.split(b"/")[::-1]
    at: list[bytes] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            del at[-1:]
        elif part not in (b"", b"."):
            here = os.path.join(root, *at, part)
            if (todo or follow) and os.path.islink(here):
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(here)
                if target.startswith(b"/"):
                    at.clear()
                todo.extend(target.split(b"/")[::-1])
            else:
                at.append(part)
    return os.path.join(root, *at)
