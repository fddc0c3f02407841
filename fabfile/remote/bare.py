"""What a server really says: commands and SFTP packets without anything of ours around them.

For whoever examines a host; a deployment uses Shell and Files.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.common import MSG_KEXINIT
from paramiko.sftp import CMD_INIT, CMD_NAME, CMD_STATUS, CMD_VERSION, int64

from .sessions import request
from .shell import Drain

GREETING_LIMIT = 8192  # bytes read before we give up on a greeting
PACKET_LIMIT = 1 << 18  # bytes; OpenSSH's SFTP_MAX_MSG_LENGTH, and nobody answers with more
SFTP_VERSION = 3
OK = 0


@dataclass(frozen=True)
class Said:
    """What a command left: exit status (-1: none came), output, seconds; `ended`: within its time."""

    status: int
    out: bytes
    err: bytes
    seconds: float
    ended: bool = True

    @property
    def text(self) -> str:
        """Both streams, for a person."""
        return (self.out + self.err).decode("utf-8", "replace").strip()


def execute(transport: paramiko.Transport, command: str, timeout: float) -> Said:
    """Run `command` just as it is given, at the longest `timeout` seconds.

    Raises paramiko.ChannelException (the server opens no session), SSHException, EOFError, OSError.
    """
    started = time.monotonic()
    channel = transport.open_session(timeout=timeout)
    with deadline(channel, timeout, "the request to run a command was not answered"):
        channel.settimeout(0.2)
        channel.exec_command(command.encode("utf-8", "surrogateescape"))
    drains = Drain(channel.recv), Drain(channel.recv_stderr)
    with contextlib.suppress(OSError):
        channel.shutdown_write()
    for event in (drains[0].ended, drains[1].ended, channel.status_event):
        event.wait(max(0.0, started + timeout - time.monotonic()))
    ended = drains[0].ended.is_set()
    channel.close()
    out, err = (bytes(drain.data) for drain in drains)
    return Said(channel.exit_status, out, err, time.monotonic() - started, ended)


@contextlib.contextmanager
def deadline(channel: paramiko.Channel, timeout: float, what: str) -> Iterator[None]:
    """Close `channel` after `timeout` seconds, which ends waits that paramiko does not bound.

    Raises TimeoutError then; whatever else is raised inside closes the channel too.
    """
    late = threading.Event()

    def give_up() -> None:
        late.set()
        channel.close()

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            channel.close()
        if late.is_set():
            raise TimeoutError(f"{what} within {timeout:g} s") from error
        raise
    finally:
        timer.cancel()


def open_sftp(channel: paramiko.Channel, timeout: float) -> paramiko.SFTPClient:
    """paramiko's SFTP client on a fresh session, within `timeout` seconds: by itself it waits for ever.

    Raises TimeoutError, and what paramiko raises where there is no SFTP.
    """
    with deadline(channel, timeout, "the SFTP subsystem did not answer"):
        request(channel, "subsystem", b"sftp")
        try:
            return paramiko.SFTPClient(channel)
        except paramiko.SSHException:
            if channel.event.is_set() and not channel.event_ready:
                raise paramiko.SSHException("the server refuses the subsystem") from None
            raise


@dataclass(frozen=True)
class Answer:
    """An SFTP answer: its type, for a STATUS the code and message, and the rest of the packet."""

    kind: int
    code: int
    message: str
    data: bytes

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return bool(self.kind != CMD_STATUS or self.code == OK)

    @property
    def name(self) -> str:
        """The first name of a NAME answer."""
        if self.kind != CMD_NAME:
            return ""
        packet = paramiko.Message(self.data)
        packet.get_int()
        return str(packet.get_binary().decode("utf-8", "surrogateescape"))


class NotSftp(Exception):
    """What came is not SFTP. said: the first bytes, b"" where nothing came; status: of the subsystem."""

    def __init__(self, why: str, said: bytes = b"", status: int = -1) -> None:
        super().__init__(why)
        self.said = said
        self.status = status


class BareSftp:
    """An SFTP session on the level of packets (draft-ietf-secsh-filexfer-02), each wait bounded.

    Raises paramiko.SSHException where the subsystem is refused, NotSftp where something else answers,
    TimeoutError where nothing does, for `timeout` seconds.
    """

    def __init__(self, transport: paramiko.Transport, timeout: float) -> None:
        self.timeout = timeout
        self.extensions: dict[str, str] = {}
        self._next = 0
        self._early: dict[int, Answer] = {}
        self.channel = transport.open_session(timeout=timeout)
        self.channel.settimeout(timeout)
        with deadline(self.channel, timeout, "the SFTP subsystem did not answer"):
            self.channel.invoke_subsystem("sftp")
            with contextlib.suppress(OSError):  # one that has ended already: what is read says how
                self.channel.sendall(struct.pack(">IBI", 5, CMD_INIT, SFTP_VERSION))
            self._greet()

    def _greet(self) -> None:
        kind, body = self._packet()
        if kind != CMD_VERSION:
            raise NotSftp(f"the first packet is of type {kind}, not VERSION", body[:200])
        packet = paramiko.Message(body[4:])
        while packet.get_remainder():
            name, value = packet.get_binary(), packet.get_binary()
            self.extensions[name.decode("latin-1")] = value.decode("latin-1")

    def _packet(self) -> tuple[int, bytes]:
        head = self._read(4)
        (size,) = struct.unpack(">I", head)
        if not 0 < size <= PACKET_LIMIT:
            raise NotSftp("what comes is not an SFTP packet", head + self._rest())
        body = self._read(size)
        return body[0], body[1:]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            block = self.channel.recv(size - len(data))
            if not block:
                self.channel.status_event.wait(1.0)
                said = data + self._errors()
                raise NotSftp("the session ended", said, self.channel.exit_status)
            data += block
        return data

    def _rest(self) -> bytes:
        self.channel.settimeout(0.3)
        with contextlib.suppress(OSError):
            return bytes(self.channel.recv(400))
        return b""

    def _errors(self) -> bytes:
        return self.channel.recv_stderr(400) if self.channel.recv_stderr_ready() else b""

    def send(self, kind: int, *fields: object) -> int:
        """Send a request; its number. str and bytes travel as strings, int as uint32, int64 as uint64."""
        self._next += 1
        packet = paramiko.Message()
        packet.add_byte(bytes([kind]))
        packet.add_int(self._next)
        for field in fields:
            _add(packet, field)
        body = packet.asbytes()
        self.channel.sendall(struct.pack(">I", len(body)) + body)
        return self._next

    def receive(self, number: int) -> Answer:
        """The answer to request `number`. Raises TimeoutError, NotSftp."""
        while number not in self._early:
            kind, body = self._packet()
            packet = paramiko.Message(body)
            answered = packet.get_int()
            rest = packet.get_remainder()
            code, message = 0, ""
            if kind == CMD_STATUS:
                packet = paramiko.Message(rest)
                code = packet.get_int()
                message = packet.get_binary().decode("utf-8", "replace") if packet.get_remainder() else ""
            self._early[answered] = Answer(kind, code, message, rest)
        return self._early.pop(number)

    def ask(self, kind: int, *fields: object) -> Answer:
        """Send a request and wait for its answer."""
        return self.receive(self.send(kind, *fields))

    def close(self) -> None:
        """Let go of the channel. Never raises."""
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            self.channel.close()


def _add(packet: Any, field: object) -> None:
    if isinstance(field, int64):
        packet.add_int64(field)
    elif isinstance(field, int):
        packet.add_int(field)
    elif isinstance(field, str):
        packet.add_string(field.encode("utf-8", "surrogateescape"))
    else:
        packet.add_string(field)


@dataclass(frozen=True)
class Greeting:
    """What a fresh TCP connection was greeted with.

    error: why there was none (errno, or None). text: all before our time was over. closed: the server has
    ended it. offers: the algorithms of its KEXINIT, by kind, where it got that far.
    """

    error: OSError | None
    text: bytes
    closed: bool
    seconds: float
    offers: dict[str, list[str]]


def greeting(sock: socket.socket | Any, timeout: float, *, offers: bool = False) -> Greeting:
    """Read what the server on `sock` says first; with `offers`, greet back and read its algorithms."""
    started, text, closed, found = time.monotonic(), b"", False, {}
    try:
        sock.settimeout(timeout)
        while b"SSH-" not in text or not text.partition(b"SSH-")[2].count(b"\n"):
            block = sock.recv(1024)
            text += block
            closed = not block
            if closed or len(text) > GREETING_LIMIT:
                break
        if offers and not closed:
            found = _offers(sock, text.partition(b"SSH-")[2].partition(b"\n")[2])
    except TimeoutError:
        pass
    except OSError:
        closed = True
    return Greeting(None, text, closed, time.monotonic() - started, found)


KINDS = ("kex", "host key", "cipher", "cipher", "mac", "mac")  # RFC 4253, section 7.1: the first six lists


def _offers(sock: Any, data: bytes) -> dict[str, list[str]]:
    """Read the server's KEXINIT (RFC 4253, sections 6 and 7.1); {} where something else comes."""
    sock.sendall(b"SSH-2.0-switchover\r\n")
    while len(data) < 5 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        block = sock.recv(4096)
        if not block or len(data) > PACKET_LIMIT:
            return {}
        data += block
    if data[5] != MSG_KEXINIT:
        return {}
    packet = paramiko.Message(data[5 + 1 + 16 :])
    return {kind: packet.get_list() for kind in KINDS}
