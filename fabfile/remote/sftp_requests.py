"""SFTP with many requests in flight, from many threads.

paramiko's SFTPClient reads an answer in the thread that waits for one, and throws away what answers
somebody else: two threads that use it at once wait for ever. Here one thread reads, and hands each
answer to whoever asked (draft-ietf-secsh-filexfer-02: answers carry the id of their request).
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import paramiko
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_FSETSTAT,
    CMD_HANDLE,
    CMD_OPEN,
    CMD_STATUS,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_TRUNC,
    SFTP_FLAG_WRITE,
    int64,
)

from ..errors import FilesError, LinkLost
from .bare import open_sftp
from .connection import LINK_ERRORS

WINDOW = 128  # requests in flight; 32 KiB each at the most
BLOCK = 32768  # bytes a WRITE; what every server must take
ANSWER_WITHIN = 30.0  # seconds without any answer while one is due
STATUS = {
    2: "no such file",
    3: "permission denied",
    4: "failure (a full disk, a quota, or a read-only file system: SFTP does not say which)",
    7: "the connection is lost",
    8: "not supported",
}


class SftpRequests:
    """One SFTP channel of its own. Thread-safe."""

    def __init__(self, session: paramiko.Channel) -> None:
        """Start SFTP on a fresh session. Raises paramiko's errors where that fails."""
        self.client = open_sftp(session, ANSWER_WITHIN)
        self.channel = self.client.get_channel()
        self.channel.settimeout(ANSWER_WITHIN)
        self._sending = threading.Lock()
        self._room = threading.Semaphore(WINDOW)
        self._due: dict[int, Future[Any]] = {}
        self._last = 0
        self._dead: BaseException | None = None
        threading.Thread(target=self._read, name="sftp-answers", daemon=True).start()

    def open_for_writing(self, path: str) -> bytes:
        """Create or empty a file; its handle."""
        flags = SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_TRUNC
        name = path.encode("utf-8", "surrogateescape")
        handle: bytes = self._ask(CMD_OPEN, name, flags, paramiko.SFTPAttributes()).result()
        return handle

    def write(self, handle: bytes, offset: int, data: bytes) -> Future[Any]:
        """Write at most BLOCK bytes; the Future ends when the server has them."""
        return self._ask(CMD_WRITE, handle, int64(offset), data)

    def set_mode_and_time(self, handle: bytes, mode: int, mtime: int) -> Future[Any]:
        """Permission bits, and the modification time in Unix seconds."""
        attributes = paramiko.SFTPAttributes()
        attributes.st_mode = mode
        attributes.st_atime = attributes.st_mtime = mtime
        return self._ask(CMD_FSETSTAT, handle, attributes)

    def close_file(self, handle: bytes) -> Future[Any]:
        """Close the handle."""
        return self._ask(CMD_CLOSE, handle)

    def close(self) -> None:
        """Let go of the channel; what is still due fails."""
        self.client.close()

    def _ask(self, kind: int, *fields: Any) -> Future[Any]:
        self._room.acquire()
        answer: Future[Any] = Future()
        answer.add_done_callback(lambda _: self._room.release())
        message = paramiko.Message()
        with self._sending:
            self._last += 1
            message.add_int(self._last)
            for field in fields:
                _add(message, field)
            self._due[self._last] = answer
            dead = self._dead
            if dead is None:
                try:
                    self.client._send_packet(kind, message)
                except LINK_ERRORS as error:
                    dead = error
        if dead is not None:
            self._fail(dead)
        return answer

    def _read(self) -> None:
        while True:
            try:
                kind, data = self.client._read_packet()
            except TimeoutError as error:
                if self._due:
                    self._fail(error)
                    return
                continue
            except (*LINK_ERRORS, paramiko.SFTPError) as error:
                self._fail(error)
                return
            message = paramiko.Message(data)
            answer = self._due.pop(message.get_int(), None)
            if answer is not None:
                _settle(answer, kind, message)

    def _fail(self, error: BaseException) -> None:
        self._dead = error
        why = "no answer to an SFTP request" if isinstance(error, TimeoutError) else str(error)
        lost = LinkLost("The SFTP session died.", why or type(error).__name__)
        while self._due:
            try:
                _, answer = self._due.popitem()
            except KeyError:
                return
            answer.set_exception(lost)


def _add(message: paramiko.Message, field: Any) -> None:
    if isinstance(field, int64):
        message.add_int64(field)
    elif isinstance(field, int):
        message.add_int(field)
    elif isinstance(field, paramiko.SFTPAttributes):
        field._pack(message)
    else:
        message.add_string(field)


def _settle(answer: Future[Any], kind: int, message: paramiko.Message) -> None:
    if kind == CMD_HANDLE:
        answer.set_result(message.get_binary())
        return
    code = message.get_int() if kind == CMD_STATUS else 4
    if code == 0:
        answer.set_result(b"")
    else:
        said = message.get_text()
        answer.set_exception(
            FilesError("The server refused an SFTP request.", f"{STATUS.get(code, code)}: {said}")
        )
