"""sftp: file by file, many requests in flight."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paramiko
from paramiko.sftp import CMD_FSETSTAT

from ...errors import FilesError, LinkLost
from ...remote.connection import LINK_ERRORS
from ...remote.files import SftpFiles
from ...remote.host import Host
from ...remote.shell import quote
from ..manifest import Entry
from ..source import Source
from . import Tally

IN_FLIGHT = 16  # files at once; one client serves them all


class SftpTransfer:
    """Uploads over the SFTP subsystem; directories and links are made by the shell."""

    name = "sftp"

    def __init__(self, host: Host) -> None:
        self.host = host

    def fill(self, source: Source, entries: Sequence[Entry], staging: str, tally: Tally) -> None:
        """See Transfer.fill. Raises FilesError where there is no SFTP."""
        self.host.connection.persist(lambda: self._fill(source, entries, staging, tally))

    def _fill(self, source: Source, entries: Sequence[Entry], staging: str, tally: Tally) -> None:
        self._prepare(entries, staging)
        files = SftpFiles(self.host.connection, self.host.files.sftp.root)
        client = files.client()
        count = _Count(tally, sum(1 for e in entries if e.kind == "link"))

        def send(entry: Entry) -> None:
            remote = files.view(f"{staging}/{entry.path}")
            with client.open(remote, "wb") as file:
                file.set_pipelined(True)
                for block in source.read(entry):
                    file.write(block)
                    count.add(0, len(block))
                _set_mode_and_time(client, file, entry)
            count.add(1, 0)

        try:
            with ThreadPoolExecutor(IN_FLIGHT) as pool:
                for _ in pool.map(send, [e for e in entries if e.kind == "file"]):
                    pass
        except LINK_ERRORS as error:
            if (
                not self.host.connection.alive
                or client.get_channel().closed
                or isinstance(error, TimeoutError)
            ):
                raise LinkLost("The SFTP session died.", str(error) or type(error).__name__) from error
            raise FilesError(
                "The upload over SFTP failed.",
                f"{type(error).__name__}: {error}",
                "See the space and rights on the host, or try transfer: stream.",
            ) from error
        finally:
            files.close()

    def _prepare(self, entries: Sequence[Entry], staging: str) -> None:
        """Empty the staging directory, make its directories and links."""
        folders = sorted({posixpath.dirname(e.path) for e in entries} - {""})
        links = [e for e in entries if e.kind == "link"]
        self.host.run_lines(
            [
                f"rm -rf {quote(staging)}",
                f"mkdir -p {quote(staging)}",
                f"cd {quote(staging)}",
                *(f"mkdir -p {quote('./' + folder)}" for folder in folders),
                *(f"ln -s -- {quote(link.content)} {quote('./' + link.path)}" for link in links),
            ],
            "Preparing the upload",
        )


class _Count:
    """Adds up from several threads."""

    def __init__(self, tally: Tally, files: int) -> None:
        self.tally = tally
        self.files = files
        self.bytes = 0
        self.lock = threading.Lock()

    def add(self, files: int, size: int) -> None:
        with self.lock:
            self.files += files
            self.bytes += size
            self.tally(self.files, self.bytes)


def _set_mode_and_time(client: Any, file: Any, entry: Entry) -> None:
    """Mode and mtime in one request."""
    attributes = paramiko.SFTPAttributes()
    attributes.st_mode = entry.mode
    attributes.st_atime = attributes.st_mtime = entry.mtime
    client._request(CMD_FSETSTAT, file.handle, attributes)
