"""Looks at a host that lets nobody in: fresh connections without a login, one at a time.

Each is made only where its answer decides something: many would make sshd think that it is attacked.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from typing import Any

import paramiko
from paramiko.common import cMSG_SERVICE_REQUEST

from ...remote import host_keys, raw_ssh
from ...remote.connection import Connection
from ...remote.raw_ssh import Greeting
from ...remote.transport import Transport
from ..rules.protocols import ASKED
from ..rules.way_in import PADDING

GREETS_WITHIN, GREETS_AT_LAST = 5.0, 20.0  # seconds; the latter after a silence
ASKED_WITHIN = 2.0  # seconds
CARRIED_WITHIN, ANSWERED_WITHIN = 5.0, 10.0  # seconds for the keys, and until an answer; for all answers
BLOCK, ANSWER = 4096, 48  # bytes of padding; at least, of an answer with its padding and its MAC
SMALL_SEGMENT = 500  # bytes; passes wherever IPv4 does (RFC 791: 576 with headers)


def dial(hop: Connection) -> Any:
    """A socket to the host, or a channel through its jump host. Raises OSError, SSHException."""
    timeout = hop.rules.connect_timeout
    if isinstance(hop.gateway, Connection):
        there, here = (hop.host, hop.port), ("127.0.0.1", 0)
        return hop.gateway.transport.open_channel("direct-tcpip", there, here, timeout=timeout)
    return socket.create_connection((hop.host, hop.port), timeout)


def greeting(hop: Connection, within: float = GREETS_WITHIN, *, offers: bool = False) -> Greeting:
    """What one more connection is greeted with; with `offers`, the server's algorithms too."""
    started = time.monotonic()
    try:
        sock = dial(hop)
    except (OSError, paramiko.SSHException) as error:
        told = error if isinstance(error, OSError) else OSError(errno.ECONNREFUSED, str(error))
        return Greeting(told, b"", True, time.monotonic() - started, {})
    try:
        return raw_ssh.greeting(sock, within, offers=offers)
    finally:
        sock.close()


def asked(hop: Connection) -> bytes:
    """What a server that waits for us to speak first says to something that is no request of its own."""
    with (
        contextlib.suppress(OSError, EOFError, paramiko.SSHException),
        contextlib.closing(dial(hop)) as sock,
    ):
        sock.settimeout(ASKED_WITHIN)
        sock.sendall(ASKED)
        return bytes(sock.recv(300))
    return b""


def has_route(hop: Connection) -> bool:
    """Whether this machine's kernel knows where to send packets for it; none is sent."""
    with contextlib.suppress(OSError):
        family, _, _, _, address = socket.getaddrinfo(hop.host, int(hop.port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            return True
    return False


def carries(hop: Connection, *, small: bool = False) -> bool:
    """Whether a fresh connection, without a login, survives the keys and some padding each way; in small
    packets?

    What comes down are answers to requests for the service that takes logins: sshd and Dropbear accept each.
    A server that says farewell to the second one is no connection that was cut.
    """
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        sock = small_socket(hop.host, int(hop.port), CARRIED_WITHIN) if small else dial(hop)
        transport = Transport(sock)
        try:
            transport.exchange_keys(CARRIED_WITHIN)
            for _ in range(PADDING // BLOCK):
                transport.send_ignore(BLOCK)
            return _answers(transport, PADDING // ANSWER)
        finally:
            transport.close()
    return False


def _answers(transport: Transport, wanted: int) -> bool:
    """Whether so many requests before a login are answered; or a farewell is said to the first two."""
    request = paramiko.Message()
    request.add_byte(cMSG_SERVICE_REQUEST)
    request.add_string("ssh-userauth")
    due, until = transport.packets, time.monotonic() + ANSWERED_WITHIN
    # Two alone: a server that ends the connection with more of it unread resets it, and its farewell is lost.
    for number in (2, wanted):
        asked = time.monotonic()
        due += number
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            for _ in range(number):
                transport._send_message(request)
        while transport.packets < due:
            now = time.monotonic()
            if not transport.is_active() or now > min(until, max(asked, transport.heard) + CARRIED_WITHIN):
                return transport.farewell is not None
            time.sleep(0.02)
    return True


def key_shown(hop: Connection) -> str | None:
    """The fingerprint of the host key that one more connection meets; None where there is none."""
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        transport = Transport(dial(hop))
        try:
            transport.exchange_keys(hop.rules.connect_timeout)
            return host_keys.fingerprint(transport.shown)
        finally:
            transport.close()
    return None


def small_socket(host: str, port: int, timeout: float) -> socket.socket:
    """A connected socket whose packets are small both ways (TCP's maximum segment size). Raises OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock
