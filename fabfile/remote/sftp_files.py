"""Checks over SFTP."""

from __future__ import annotations

import math
import posixpath
import stat as modes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from paramiko.sftp import (
    CMD_CLOSE,
    CMD_DATA,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_LSTAT,
    CMD_OPEN,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    CMD_READLINK,
    CMD_REALPATH,
    CMD_STAT,
    SFTP_FLAG_READ,
    int64,
)

from ..errors import FilesError, LinkLost
from .checks import READ_LIMIT, Final, PathInfo, Space, Stat, kind_of
from .connection import LINK_ERRORS, Connection
from .sftp_session import (
    END_OF_FILE,
    NO_SUCH_FILE,
    Answer,
    Attributes,
    NotSftp,
    Refused,
    SessionEnded,
    SftpSession,
)
from .watchdog import answers

T = TypeVar("T")

# Seconds for finding out whether SFTP can be had: for its start, for one answer, and for all that came late.
OPENED_WITHIN, ANSWER_WITHIN, PATIENCE = 20.0, 10.0, 25.0
PROMPT = 1.0  # seconds; an answer that came within that is not late
ALIVE_WITHIN = 4.0  # seconds for an answer from the peer itself, where SFTP gives none
ENDINGS = 3  # sessions that the server may end, one after the other, with nothing answered
LOOK_AGAIN = 0.008  # seconds between the first looks of a watch
READ_BLOCK = 32768  # bytes; what every server gives at once
NAMES_LIMIT = 100_000  # of one directory
NO_LINK = (NO_SUCH_FILE, 4, 5)  # codes with which servers answer a readlink of what is none


_GLANCE = (CMD_LSTAT, CMD_READLINK)


class SftpFiles:
    """Checks over SFTP. The session is reopened whenever it was closed, never trusted to be alive.

    root: what SFTP's / is called by the shell, where SFTP is chrooted. on_reopen is called where the server
    has closed the channel under us.
    """

    def __init__(
        self,
        connection: Connection,
        root: str | None = None,
        on_reopen: Callable[[], None] = lambda: None,
    ) -> None:
        self.connection = connection
        self.root = root
        self.on_reopen = on_reopen
        self._session: SftpSession | None = None
        self._absent: FilesError | None = None  # why there is none: nobody waits for that twice
        self._patience = PATIENCE
        self._endings = 0

    def session(self) -> SftpSession:
        """A living session. Raises FilesError when there is no SFTP, LinkLost when the link is dead."""
        if self._session and not self._session.channel.closed and self.connection.alive:
            return self._session
        if self._absent:
            raise self._absent
        started = time.monotonic()
        try:
            session = SftpSession(
                self.connection.create_session(optional=True), min(OPENED_WITHIN, self._patience)
            )
        except (*LINK_ERRORS, NotSftp) as error:
            if not self.connection.still_alive():
                raise LinkLost("The connection died.", self.connection.why_dead()) from error
            self._absent = FilesError(
                "The host offers no SFTP.",
                f"opening the sftp subsystem: {_described(error)}",
                "Have `Subsystem sftp internal-sftp` set in its sshd_config, or set ssh.sftp: off.",
            )
            raise self._absent from error
        self._waited(started)
        session.timeout = ANSWER_WITHIN
        if self._session and self._session.channel.get_transport() is self.connection.transport:
            self.on_reopen()
        self._session = session
        return session

    def close(self) -> None:
        """Let go of the channel. Never raises: saying goodbye to a dead peer is no failure."""
        if self._session:
            self._session.close()
            self._session = None

    def _waited(self, since: float) -> None:
        self._patience -= max(0.0, time.monotonic() - since - PROMPT)

    def view(self, path: str) -> str:
        """What SFTP calls the shell's `path`."""
        if not self.root:
            return path
        inside = posixpath.relpath(path, self.root)
        if inside == ".." or inside.startswith("../"):
            raise FilesError(
                f"SFTP can't see {path}.",
                f"ssh.sftp_root says that SFTP's / is {self.root}",
                "Correct ssh.sftp_root, or set ssh.sftp: off.",
            )
        return posixpath.join("/", inside)

    def lstat(self, path: str) -> Stat | None:
        return self._ask("lstat", path, lambda ask, p: _stat(ask(CMD_LSTAT, p).attributes()))

    def readlink(self, path: str) -> str | None:
        return self._ask("readlink", path, lambda ask, p: _target(ask(CMD_READLINK, p)))

    def look(self, paths: Sequence[str]) -> dict[str, PathInfo]:
        found = self._ask("stat", posixpath.commonpath(paths), lambda ask, _: self._look(ask, paths))
        assert found is not None
        return found

    def _look(self, ask: _Asking, paths: Sequence[str]) -> dict[str, PathInfo]:
        return _Look(ask.session, {path: self.view(path) for path in paths}).answer(ask.until)

    def watch(self, paths: Sequence[str], final: Final, done: threading.Event) -> dict[str, PathInfo] | None:
        """Look at `paths` again and again until `done`, without waiting for answers. The first sight that is
        `final`; None where none was, or where the link broke: it is for the shell to come back.
        """
        session = self._session
        if session is None or session.channel.closed or not self.connection.alive:
            return None
        try:
            names = {path: self.view(path) for path in paths}
            started, looks = time.monotonic(), [_Look(session, names)]
            passed, answered = 0.0, math.inf  # seconds; the latter: until the first answer was here
            # Where the next look is as far away as an answer, to ask when all is done takes no longer.
            while (gap := max(LOOK_AGAIN, passed / 5)) <= max(LOOK_AGAIN, answered) and not done.wait(gap):
                passed = time.monotonic() - started
                if session.channel.recv_ready():
                    answered = min(answered, passed)
                looks.append(_Look(session, names))
            until = time.monotonic() + ANSWER_WITHIN
            return next((seen for look in looks if final(seen := look.answer(until))), None)
        except (*LINK_ERRORS, FilesError, NotSftp, Refused):
            session.close()  # what is still due would be in the way of the next answers
            return None

    def realpath(self, path: str) -> str | None:
        def question(ask: _Asking, name: str) -> str:
            # OpenSSH answers realpath of a missing last part with success: ask stat first.
            ask(CMD_STAT, name).attributes()
            return ask(CMD_REALPATH, name).path()

        found = self._ask("realpath", path, question)
        return posixpath.join(self.root, found.lstrip("/")) if self.root and found else found

    def listing(self, path: str) -> list[str] | None:
        return self._ask("listing", path, _names)

    def read(self, path: str) -> bytes | None:
        return self._ask("reading", path, _content)

    def space(self, path: str) -> Space:
        found = self._ask("statvfs", path, _statvfs)
        if found is None:
            raise FilesError(f"SFTP does not see {path}.", "statvfs: no such file")
        return found

    def rename_over(self, old: str, new: str) -> None:
        """Replace `new` by `old` in one step (posix-rename@openssh.com)."""
        target = self.view(new)
        self._ask(
            "rename", old, lambda ask, p: ask(CMD_EXTENDED, "posix-rename@openssh.com", p, target).done()
        )

    def _ask(self, what: str, path: str, question: Callable[[_Asking, str], T]) -> T | None:
        def once() -> T | None:
            session, started = self.session(), time.monotonic()
            try:
                asking = _Asking(session, min(ANSWER_WITHIN, self._patience))
                answer = question(asking, self.view(path))
            except Refused as error:
                if error.code == NO_SUCH_FILE:
                    return None
                raise FilesError(f"SFTP refused {what} of {path}.", str(error)) from error
            except (*LINK_ERRORS, NotSftp) as error:
                broken = self._broken(error, f"{what} of {path}")
                if isinstance(broken, LinkLost):
                    started = time.monotonic()  # it was the link that was late
                raise broken from error
            finally:
                self._waited(started)
            self._endings = 0
            return answer

        return self.connection.persist(once)

    def _broken(self, error: BaseException, what: str) -> LinkLost | FilesError:
        """What it means that a session gave no proper answer. It is not used any more."""
        # Kept in mind, so that its successor is told of as one.
        if self._session:
            self._session.close()
        silent = isinstance(error, TimeoutError)
        if silent and self.connection.alive and answers(self.connection.transport, ALIVE_WITHIN):
            return FilesError(
                "SFTP does not answer.", f"{what}: {_described(error)}, while the host itself answers"
            )
        if isinstance(error, NotSftp) and not isinstance(error, SessionEnded):
            return FilesError("What SFTP answers is not understood.", f"{what}: {_described(error)}")
        self._endings += 1
        if self._endings >= ENDINGS and self.connection.still_alive():
            return FilesError("SFTP ends again and again.", f"{what}: {_described(error)}")
        return LinkLost("The SFTP session died.", _described(error))


class _Asking:
    """Asks on one session, with one time for all that belongs to a question."""

    def __init__(self, session: SftpSession, within: float) -> None:
        self.session = session
        self.until = time.monotonic() + within

    def __call__(self, kind: int, *fields: object) -> Answer:
        return self.session.ask(kind, *fields, within=max(0.001, self.until - time.monotonic()))


def _described(error: BaseException) -> str:
    said = error.said.decode("utf-8", "replace").strip()[:100] if isinstance(error, NotSftp) else ""
    return f"{type(error).__name__}: {error}" + (f"; it says {said!r}" if said else "")


def _names(ask: _Asking, path: str) -> list[str]:
    """The names in a directory, sorted. Raises NotSftp for what can't be names."""
    handle, found = ask(CMD_OPENDIR, path).handle(), set[str]()
    while (answer := ask(CMD_READDIR, handle)).code != END_OF_FILE:
        names = answer.names()
        if not names or len(found) > NAMES_LIMIT or any("/" in n or "\0" in n or not n for n in names):
            raise NotSftp("a directory without an end, or with what can't be a name", answer.data[:200])
        found.update(names)
    ask(CMD_CLOSE, handle)
    return sorted(found - {".", ".."})


def _content(ask: _Asking, path: str) -> bytes:
    """The first READ_LIMIT bytes of a file."""
    handle, data = ask(CMD_OPEN, path, SFTP_FLAG_READ, 0).handle(), b""
    while len(data) < READ_LIMIT:
        size = min(READ_BLOCK, READ_LIMIT - len(data))
        answer = ask(CMD_READ, handle, int64(len(data)), size)
        if answer.code == END_OF_FILE:
            break
        block = answer.granted(CMD_DATA).string()
        if not 0 < len(block) <= size:
            raise NotSftp(f"{len(block)} bytes where {size} were asked for")
        data += block
    ask(CMD_CLOSE, handle)
    return data


class _Look:
    """lstat and readlink of some paths, sent without waiting for the answers. names: what SFTP calls them."""

    def __init__(self, session: SftpSession, names: Mapping[str, str]) -> None:
        self.session = session
        self.asked = {path: [session.send(kind, name) for kind in _GLANCE] for path, name in names.items()}

    def answer(self, until: float) -> dict[str, PathInfo]:
        """Wait for the answers, until time.monotonic() says so."""

        def receive(number: int) -> Answer:
            return self.session.receive(number, max(0.001, until - time.monotonic()))

        return {
            path: PathInfo(_there(receive(stat)), _target(receive(link)))
            for path, (stat, link) in self.asked.items()
        }


def _there(answer: Answer) -> Stat | None:
    return None if answer.code == NO_SUCH_FILE else _stat(answer.attributes())


def _target(answer: Answer) -> str | None:
    return None if answer.code in NO_LINK else answer.path()


def _stat(attributes: Attributes) -> Stat:
    return Stat(kind_of(attributes.mode), modes.S_IMODE(attributes.mode), attributes.size)


def _statvfs(ask: _Asking, path: str) -> Space:
    # PROTOCOL, section 3.4 (OpenSSH): bsize, frsize, blocks, bfree, bavail, files, ffree, favail, …
    fields = ask(CMD_EXTENDED, "statvfs@openssh.com", path).granted(CMD_EXTENDED_REPLY)
    values = [fields.uint64() for _ in range(8)]
    return Space(values[1] * values[4], values[7] if values[5] else None)
