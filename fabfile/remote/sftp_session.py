"""SFTP, version 3, on the level of packets (draft-ietf-secsh-filexfer-02): the one reader of answers.

paramiko's own client takes packets of 4 GB, fills with zeros what a packet lacks, and waits for ever for an
answer of the right number. Here each wait and each size is bounded, and what is no answer ends the session.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import paramiko
from paramiko.sftp import CMD_ATTRS, CMD_HANDLE, CMD_INIT, CMD_NAME, CMD_STATUS, CMD_VERSION, int64

from .sessions import request

PACKET_LIMIT = 1 << 18  # bytes; OpenSSH's SFTP_MAX_MSG_LENGTH, and nobody answers with more
SFTP_VERSION = 3
OK, END_OF_FILE, NO_SUCH_FILE = 0, 1, 2
STATUS = {
    1: "end of file",
    2: "no such file",
    3: "permission denied",
    4: "failure (a full disk, a quota, or a read-only file system: SFTP does not say which)",
    7: "the connection is lost",
    8: "not supported",
}
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 1, 2, 4, 8, 0x80000000  # what a set of attributes holds


class NotSftp(Exception):
    """What came is not SFTP. said: the first bytes, b"" where nothing came; status: of the subsystem."""

    def __init__(self, why: str, said: bytes = b"", status: int = -1) -> None:
        super().__init__(why)
        self.said = said
        self.status = status


class SessionEnded(NotSftp):
    """The server has closed the session's channel."""


class Refused(Exception):
    """The server refuses a request. code: of SFTP's STATUS."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{STATUS.get(code, f'code {code}')}: {message}")
        self.code = code


class Fields:
    """Reads the fields of a packet; one that ends too early is no packet. Raises NotSftp."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise NotSftp("an SFTP packet is shorter than it says", self.data[:200])
        self.at += size
        return taken

    def uint32(self) -> int:
        """The next 32-bit number."""
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        """The next 64-bit number."""
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        """The next string, with its length before it."""
        return self.take(self.uint32())

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self.data) - self.at


@dataclass(frozen=True)
class Attributes:
    """What lstat says: the raw mode with the kind in it, and the size in bytes."""

    mode: int
    size: int


@dataclass(frozen=True)
class Answer:
    """An SFTP answer: its type, for a STATUS the code and message, and the rest of the packet."""

    kind: int
    code: int
    message: str
    data: bytes

    @classmethod
    def of(cls, kind: int, data: bytes) -> Answer:
        """Read it. Raises NotSftp."""
        if kind != CMD_STATUS:
            return cls(kind, 0, "", data)
        fields = Fields(data)
        code = fields.uint32()
        message = fields.string().decode("utf-8", "replace") if fields.left else ""
        return cls(kind, code, message, data)

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return bool(self.kind != CMD_STATUS or self.code == OK)

    def granted(self, kind: int) -> Fields:
        """The fields of an answer that must be of this kind. Raises Refused, or NotSftp for another kind."""
        if self.kind == CMD_STATUS and self.code != OK:
            raise Refused(self.code, self.message)
        if self.kind != kind:
            raise NotSftp(f"an answer of type {self.kind} where {kind} is due", self.data[:200])
        return Fields(self.data)

    def done(self) -> None:
        """The request must have been granted, with nothing to say. Raises as granted() does."""
        self.granted(CMD_STATUS)

    def handle(self) -> bytes:
        """The handle. Raises as granted() does."""
        return self.granted(CMD_HANDLE).string()

    def attributes(self) -> Attributes:
        """The attributes. Raises as granted() does."""
        return _attributes(self.granted(CMD_ATTRS))

    def names(self) -> list[str]:
        """The names. Raises as granted() does."""
        fields = self.granted(CMD_NAME)
        return [name for name, _ in _names(fields)]

    def path(self) -> str:
        """The only name. Raises as granted() does."""
        names = self.names()
        if len(names) != 1 or not names[0] or "\0" in names[0]:
            raise NotSftp(f"{len(names)} names where one path is due", self.data[:200])
        return names[0]

    @property
    def name(self) -> str:
        """The first name of a NAME answer; "" where it is none."""
        return self.names()[0] if self.kind == CMD_NAME and self.names() else ""


def _names(fields: Fields) -> Iterator[tuple[str, Attributes | None]]:
    for _ in range(fields.uint32()):
        name = fields.string().decode("utf-8", "surrogateescape")
        fields.string()  # the same as `ls -l` prints it
        yield name, _attributes(fields, needed=False)


def _attributes(fields: Fields, needed: bool = True) -> Attributes:
    flags = fields.uint32()
    size = fields.uint64() if flags & _SIZE else 0
    fields.take(8 if flags & _OWNER else 0)
    mode = fields.uint32() if flags & _MODE else 0
    fields.take(8 if flags & _TIMES else 0)
    for _ in range(fields.uint32() if flags & _MORE else 0):
        fields.string(), fields.string()
    if needed and not flags & _MODE:
        raise NotSftp("attributes that do not say what kind of file it is")
    return Attributes(mode, size)


class SftpSession:
    """SFTP on a fresh session channel. One thread may send and another one receive.

    timeout: seconds for one answer. Raises paramiko.SSHException where the subsystem is refused, NotSftp
    where something else answers, TimeoutError where nothing does; so do all requests.
    """

    def __init__(self, channel: paramiko.Channel, timeout: float) -> None:
        self.channel = channel
        self.timeout = timeout
        self.extensions: dict[str, str] = {}
        self._next = 0
        self._due: set[int] = set()
        self._early: dict[int, Answer] = {}
        self._buffer = bytearray()
        try:
            # Without waiting for the answer, as paramiko would: what is sent next travels along.
            request(channel, "subsystem", b"sftp")
            with contextlib.suppress(OSError):  # one that has ended already: what is read says how
                self._send(struct.pack(">IBI", 5, CMD_INIT, SFTP_VERSION))
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        try:
            kind, body = self._packet(self.timeout)
        except SessionEnded:
            self.channel.event.wait(1.0)
            if not self.channel.event_ready:
                raise paramiko.SSHException("the server refuses the subsystem") from None
            raise
        except TimeoutError:
            raise TimeoutError(f"the SFTP subsystem did not answer within {self.timeout:g} s") from None
        fields = Fields(body)
        if kind != CMD_VERSION or fields.uint32() != SFTP_VERSION:
            raise NotSftp(f"the first packet, of type {kind}, is not version {SFTP_VERSION}", body[:200])
        while fields.left:
            name, value = fields.string(), fields.string()
            self.extensions[name.decode("latin-1")] = value.decode("latin-1")

    def take_number(self) -> int:
        """A number for a request that send_as() will send."""
        self._next = self._next + 1 & 0xFFFFFFFF
        self._due.add(self._next)
        return self._next

    def send_as(self, number: int, kind: int, *fields: object) -> None:
        """Send a request. str and bytes travel as strings, int as uint32, int64 as uint64."""
        body = b"".join([bytes([kind]), number.to_bytes(4, "big"), *map(_packed, fields)])
        self._send(len(body).to_bytes(4, "big") + body)

    def send(self, kind: int, *fields: object) -> int:
        """Send a request; its number. See send_as()."""
        number = self.take_number()
        self.send_as(number, kind, *fields)
        return number

    def receive(self, number: int, within: float | None = None) -> Answer:
        """The answer to request `number`, within so many seconds in all."""
        until = time.monotonic() + (self.timeout if within is None else within)
        while number not in self._early:
            answered, answer = self.next_answer(max(0.001, until - time.monotonic()))
            self._early[answered] = answer
        return self._early.pop(number)

    def next_answer(self, within: float) -> tuple[int, Answer]:
        """The number of the request that was answered next, and the answer. After a TimeoutError it may be
        asked for again.
        """
        kind, body = self._packet(within)
        fields = Fields(body)
        number = fields.uint32()
        if number not in self._due:
            raise NotSftp(f"an answer to request {number}, which was not sent", body[:200])
        self._due.discard(number)
        return number, Answer.of(kind, body[4:])

    def ask(self, kind: int, *fields: object, within: float | None = None) -> Answer:
        """Send a request and wait for its answer."""
        return self.receive(self.send(kind, *fields), within)

    def close(self) -> None:
        """Let go of the channel. Never raises."""
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            self.channel.close()

    def _send(self, data: bytes) -> None:
        view, until = memoryview(data), time.monotonic() + self.timeout
        while view:
            try:
                view = view[self.channel.send(view) :]
            except TimeoutError:  # whoever reads has set a short time
                if time.monotonic() > until:
                    raise

    def _packet(self, within: float) -> tuple[int, bytes]:
        until = time.monotonic() + within
        (size,) = struct.unpack(">I", self._read(4, until))
        if not 0 < size <= PACKET_LIMIT:
            raise NotSftp("what comes is not an SFTP packet", bytes(self._buffer) + self._rest())
        body = self._read(4 + size, until)[4:]
        del self._buffer[: 4 + size]
        return body[0], body[1:]

    def _read(self, size: int, until: float) -> bytes:
        """The first bytes that were not taken yet; all that comes is kept, so a wait may be cut short."""
        while len(self._buffer) < size:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer to an SFTP request")
            self.channel.settimeout(left)
            block = self.channel.recv(max(size - len(self._buffer), 4096))
            if not block:
                self.channel.status_event.wait(1.0)
                raise SessionEnded("the session ended", self._said(), self.channel.exit_status)
            self._buffer += block
        return bytes(self._buffer[:size])

    def _said(self) -> bytes:
        errors = self.channel.recv_stderr(400) if self.channel.recv_stderr_ready() else b""
        return bytes(self._buffer[:400]) + errors

    def _rest(self) -> bytes:
        self.channel.settimeout(0.3)
        with contextlib.suppress(OSError):
            return bytes(self.channel.recv(400))
        return b""


def _packed(field: object) -> bytes:
    if isinstance(field, int64):
        return int(field).to_bytes(8, "big")
    if isinstance(field, int):
        return field.to_bytes(4, "big")
    data = field.encode("utf-8", "surrogateescape") if isinstance(field, str) else field
    assert isinstance(data, bytes | bytearray | memoryview)
    return len(data).to_bytes(4, "big") + data
