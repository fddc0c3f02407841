"""sftp: file by file, many requests in flight."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ...errors import FilesError, LinkLost
from ...on_host.manifest import Entry
from ...remote.connection import LINK_ERRORS
from ...remote.host import Host
from ...remote.sftp_requests import BLOCK, SftpRequests
from ...remote.sftp_session import NotSftp
from ...remote.shell import quote
from ..source.source import Source
from .transfer import Tally

FILES_AT_ONCE = 32


class SftpTransfer:
    """Uploads over the SFTP subsystem; directories and links are made by the shell."""

    name = "sftp"

    def __init__(self, host: Host) -> None:
        self.host = host

    def send(self, source: Source, entries: Sequence[Entry], staging: str, tally: Tally) -> None:
        """See Transfer.send. Raises FilesError where there is no SFTP."""
        self._prepare(entries, staging)
        requests = self._open()
        view = self.host.files.sftp.view
        count = _Count(tally, sum(1 for e in entries if e.kind == "link"))

        def send(entry: Entry) -> None:
            self.host.connection.stop_if_interrupted()
            _send(requests, view(f"{staging}/{entry.path}"), source, entry, count)

        try:
            with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
                for _ in pool.map(send, [e for e in entries if e.kind == "file"]):
                    pass
        finally:
            requests.close()

    def _open(self) -> SftpRequests:
        try:
            return SftpRequests(self.host.connection.create_session())
        except (*LINK_ERRORS, NotSftp) as error:
            if not self.host.connection.still_alive():
                raise LinkLost("The connection died.", self.host.connection.why_dead()) from error
            raise FilesError(
                "The host offers no SFTP.",
                f"opening the sftp subsystem: {type(error).__name__}: {error}",
                "Set transfer: stream, which needs a shell and tar only.",
            ) from error

    def _prepare(self, entries: Sequence[Entry], staging: str) -> None:
        """Make the directories and links."""
        folders = sorted({posixpath.dirname(e.path) for e in entries} - {""})
        links = [e for e in entries if e.kind == "link"]
        self.host.run_lines(
            [
                f"mkdir -p {quote(staging)}",
                f"cd {quote(staging)}",
                *(f"mkdir -p {quote('./' + folder)}" for folder in folders),
                *(_link_command(link) for link in links),
            ],
            "Preparing the upload",
        )


def _link_command(link: Entry) -> str:
    name = quote(f"./{link.path}")
    return f"rm -rf {name}; ln -s -- {quote(link.content)} {name}"


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


def _send(requests: SftpRequests, path: str, source: Source, entry: Entry, count: _Count) -> None:
    """One file: only its opening is waited for, everything else goes out at once."""
    handle = requests.open_for_writing(path)
    due, offset = [], 0
    for block in source.read(entry):
        for start in range(0, len(block), BLOCK):
            part = block[start : start + BLOCK]
            due.append(requests.write(handle, offset, part))
            offset += len(part)
        count.add(0, len(block))
    due.append(requests.set_mode_and_time(handle, entry.mode, entry.mtime))
    due.append(requests.close_file(handle))
    for answer in due:
        answer.result()
    count.add(1, 0)
