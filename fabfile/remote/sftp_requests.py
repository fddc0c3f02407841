"""SFTP with many requests in flight, from many threads.

Here one thread reads, and hands each answer to whoever asked: answers carry the number of their request. None
that is waited for is ever dropped; what can't be understood ends all that is due.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

import paramiko
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_FSETSTAT,
    CMD_HANDLE,
    CMD_OPEN,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_TRUNC,
    SFTP_FLAG_WRITE,
    int64,
)

from ..errors import FilesError, LinkLost, SwitchoverError
from .connection import LINK_ERRORS
from .sftp_session import Answer, NotSftp, Refused, SessionEnded, SftpSession
from .watchdog import answers

WINDOW = 128  # requests in flight; 32 KiB each at the most
BLOCK = 32768  # bytes a WRITE; what every server must take
OPENED_WITHIN = 20.0  # seconds for the server to start
ANSWER_WITHIN = 25.0  # seconds without any answer while one is due
ALIVE_WITHIN = 4.0  # seconds for an answer from the peer itself, where SFTP gives none
LAST_SECOND = 0xFFFFFFFF  # of the time that SFTP's version 3 can say: in 2106
_MODE, _TIMES = 4, 8  # attributes that follow their flags


class SftpRequests:
    """One SFTP channel of its own. Thread-safe."""

    def __init__(self, channel: paramiko.Channel) -> None:
        """Start SFTP on a fresh session. Raises what SftpSession raises."""
        self.session = SftpSession(channel, OPENED_WITHIN)
        self._sending = threading.Lock()
        self._room = threading.Semaphore(WINDOW)
        self._due: dict[int, Future[bytes]] = {}
        self._dead: SwitchoverError | None = None
        threading.Thread(target=self._read, name="sftp-answers", daemon=True).start()

    def open_for_writing(self, path: str) -> bytes:
        """Create or empty a file; its handle."""
        flags = SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_TRUNC
        return self._ask(CMD_OPEN, path, flags, 0).result()

    def write(self, handle: bytes, offset: int, data: bytes) -> Future[bytes]:
        """Write at most BLOCK bytes; the Future ends when the server has them."""
        return self._ask(CMD_WRITE, handle, int64(offset), data)

    def set_mode_and_time(self, handle: bytes, mode: int, mtime: int) -> Future[bytes]:
        """Permission bits, and the modification time in Unix seconds."""
        seconds = min(max(mtime, 0), LAST_SECOND)
        return self._ask(CMD_FSETSTAT, handle, _MODE | _TIMES, mode, seconds, seconds)

    def close_file(self, handle: bytes) -> Future[bytes]:
        """Close the handle."""
        return self._ask(CMD_CLOSE, handle)

    def close(self) -> None:
        """Let go of the channel; what is still due fails."""
        self.session.close()

    def _ask(self, kind: int, *fields: object) -> Future[bytes]:
        self._room.acquire()
        answer: Future[bytes] = Future()
        answer.add_done_callback(lambda _: self._room.release())
        with self._sending:
            number = self.session.take_number()
            self._due[number] = answer
            if self._dead is None:
                try:
                    self.session.send_as(number, kind, *fields)
                except LINK_ERRORS as error:
                    self._dead = self._why(error)
        if self._dead is not None:
            self._fail(self._dead)
        return answer

    def _read(self) -> None:
        while True:
            try:
                number, answer = self.session.next_answer(ANSWER_WITHIN)
                self._settle(self._due.pop(number), answer)
            except TimeoutError as error:
                if self._due:
                    return self._fail(self._why(error))
            except Exception as error:  # noqa: BLE001  (whatever it is: others wait for this thread)
                return self._fail(self._why(error))

    def _settle(self, waiting: Future[bytes], answer: Answer) -> None:
        try:
            waiting.set_result(answer.handle() if answer.kind == CMD_HANDLE else _nothing(answer))
        except Refused as error:
            waiting.set_exception(FilesError("The server refused an SFTP request.", str(error)))
        except NotSftp as error:
            waiting.set_exception(self._why(error))
            raise

    def _why(self, error: BaseException) -> SwitchoverError:
        """What it means for all that is due."""
        why, transport = str(error) or type(error).__name__, self.session.channel.get_transport()
        if isinstance(error, NotSftp) and not isinstance(error, SessionEnded):
            return FilesError("What SFTP answers is not understood.", why)
        if isinstance(error, TimeoutError) and transport.is_active() and answers(transport, ALIVE_WITHIN):
            return FilesError(
                "SFTP does not answer.", f"{why}, while the host itself answers", "Set transfer: stream."
            )
        return LinkLost("The SFTP session died.", why)

    def _fail(self, error: SwitchoverError) -> None:
        self._dead = error
        while self._due:
            try:
                _, answer = self._due.popitem()
            except KeyError:
                return
            answer.set_exception(error)


def _nothing(answer: Answer) -> bytes:
    answer.done()
    return b""
