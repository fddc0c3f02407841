"""What a server really says: commands and greetings without anything of ours around them.

For whoever examines a host; a deployment uses Shell and Files.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.common import MSG_KEXINIT

from .output import Drain
from .sftp_session import PACKET_LIMIT

GREETING_LIMIT = 8192  # bytes read before we give up on a greeting


@dataclass(frozen=True)
class Said:
    """What a command left: exit status (-1: none came), output, seconds; `ended`: within its time.

    before: what came before the mark that a script of ours begins with; started: whether that mark came.
    merged: what the script says on stderr came among its output.
    """

    status: int
    out: bytes
    err: bytes
    seconds: float
    ended: bool = True
    before: bytes = b""
    started: bool = False
    merged: bool = False

    @property
    def text(self) -> str:
        """Both streams, for a person."""
        return (self.before + self.out + self.err).decode("utf-8", "replace").strip()


def execute(transport: paramiko.Transport, command: str, timeout: float) -> Said:
    """Run `command` just as it is given, at the longest `timeout` seconds and until it has said too much.

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
    ended = drains[0].ended.is_set() and not any(drain.error for drain in drains)
    channel.close()
    out, err = (drain.data for drain in drains)
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

    @property
    def greeted(self) -> bool:
        """Whether a whole greeting of an SSH server came."""
        return b"\n" in self.text.partition(b"SSH-")[2]


def greeting(sock: socket.socket | Any, timeout: float, *, offers: bool = False) -> Greeting:
    """Read what the server on `sock` says first; with `offers`, greet back and read its algorithms."""
    started, text, closed, found = time.monotonic(), b"", False, {}
    read = _bounded(sock, started + timeout)
    try:
        while b"SSH-" not in text or not text.partition(b"SSH-")[2].count(b"\n"):
            block = read(1024)
            text += block
            closed = not block
            if closed or len(text) > GREETING_LIMIT:
                break
        if offers and not closed:
            sock.sendall(b"SSH-2.0-switchover\r\n")
            found = _offers(read, text.partition(b"SSH-")[2].partition(b"\n")[2])
    except TimeoutError:
        pass
    except OSError:
        closed = True
    return Greeting(None, text, closed, time.monotonic() - started, found)


def _bounded(sock: Any, until: float) -> Callable[[int], bytes]:
    """What reads from `sock` and raises TimeoutError once time.monotonic() says `until`."""

    def read(size: int) -> bytes:
        sock.settimeout(max(0.001, until - time.monotonic()))
        return bytes(sock.recv(size))

    return read


KINDS = ("kex", "host key", "cipher", "cipher", "mac", "mac")  # RFC 4253, section 7.1: the first six lists


def _offers(read: Callable[[int], bytes], data: bytes) -> dict[str, list[str]]:
    """Read the server's KEXINIT (RFC 4253, sections 6 and 7.1); {} where something else comes."""
    while len(data) < 6 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        block = read(4096)
        if not block or len(data) > PACKET_LIMIT:
            return {}
        data += block
    if data[5] != MSG_KEXINIT:
        return {}
    packet = paramiko.Message(data[5 + 1 + 16 :])
    return {kind: packet.get_binary().decode("ascii", "replace").split(",") for kind in KINDS}
