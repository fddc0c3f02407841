"""paramiko's Transport, set up for speed (cipher, no Nagle, a login in one round trip) and made to end.

Each wait while a connection is made has a bound, and what ended it can be seen afterwards.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import MSG_SERVICE_ACCEPT, cMSG_GLOBAL_REQUEST
from paramiko.packet import Packetizer

# GCM is half as fast again as CTR (measured on loopback), and paramiko would choose CTR.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")

NEVER_REKEY = 1 << 44  # bytes; re-keying costs time, and is left to the server

# Bytes that may wait in the kernel to be sent. It takes megabytes where it is let, which a slow link needs a
# minute for: signs of life, a lease and new keys would come behind them. (tcp(7); none on other systems)
UNSENT = 1 << 18

# Of what a server says in front of its greeting (RFC 4253, section 4.2): OpenSSH reads 1024 lines of 8 KiB.
LINE_LIMIT = 8192  # bytes
GREETING_LIMIT = 1 << 16  # bytes


class NotSSH(paramiko.SSHException):  # type: ignore[misc]
    """What answers has said something that is no greeting of an SSH server."""


class _Packetizer(Packetizer):  # type: ignore[misc]
    """Notes when the last packet came, in time.monotonic(), and how many have come."""

    heard = 0.0
    packets = 0

    def read_message(self) -> Any:
        message = super().read_message()
        self.heard = time.monotonic()
        self.packets += 1
        return message


class Transport(paramiko.Transport):  # type: ignore[misc]
    """A Transport with these on it. sock: a connected socket, or the channel through a gateway.

    said_before: what the server said in front of a greeting, or in place of one.
    farewell:    the code and the words with which the server has ended the connection, if it did.
    algorithms:  the host key algorithms to offer, best first.
    shown:       the host key, as it came.
    """

    def __init__(self, sock: Any, **kwargs: Any) -> None:
        super().__init__(sock, packetizer_class=_Packetizer, **kwargs)
        options = self.get_security_options()
        offered = options.ciphers
        options.ciphers = [c for c in CIPHERS if c in offered] + [c for c in offered if c not in CIPHERS]
        self.packetizer.REKEY_BYTES = NEVER_REKEY
        self.clear_to_send_timeout = math.inf  # for new keys, behind what is under way: the watchdog judges
        self.said_before = b""
        self.farewell: tuple[int, str] | None = None
        self.algorithms: tuple[str, ...] = self._preferred_keys
        self.shown = b""
        self.service_accepted = threading.Event()
        self.service_asked = False
        self._greeted = threading.Event()
        self._postponed: list[paramiko.Message] = []
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", -1), UNSENT)

    @property
    def heard(self) -> float:
        """When the last packet came; in time.monotonic()."""
        return float(self.packetizer.heard)

    @property
    def packets(self) -> int:
        """How many have come."""
        return int(self.packetizer.packets)

    def send_keepalive(self) -> None:
        """Ask for an answer and do not wait for it (see `heard`). Raises SSHException, OSError, EOFError."""
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)

    # -- greeting and keys -----------------------------------------------------------------------------

    @property
    def stage(self) -> str:
        """How far the making of the connection has come."""
        if not self.remote_version:
            return "greeting"
        return "login" if self.initial_kex_done else "key exchange"

    def exchange_keys(self, timeout: float) -> None:
        """Greeting and key exchange, each within `timeout` seconds.

        Raises TimeoutError, NotSSH, and what else ended the connection: SSHException, EOFError, OSError.
        """
        self.banner_timeout = timeout
        self.handshake_timeout = timeout + 5  # paramiko's own would tell a silence as an end of file
        done = threading.Event()
        self.start_client(event=done)
        over = self._greeted.wait(timeout + 1) and done.wait(timeout)
        if not self.active:
            raise self.get_exception() or EOFError()
        if not over:
            raise TimeoutError

    def _check_banner(self) -> None:
        """See paramiko's, which waits for lines without end."""
        try:
            self.remote_version = self._read_greeting(time.monotonic() + self.banner_timeout)
        finally:
            self._greeted.set()
        self._log(paramiko.common.DEBUG, f"Remote version/idstring: {self.remote_version}")

    def _read_greeting(self, deadline: float) -> str:
        line = b""
        while len(self.said_before) + len(line) < GREETING_LIMIT and len(line) < LINE_LIMIT:
            if time.monotonic() > deadline:
                self.said_before += line
                raise TimeoutError
            try:
                # One by one: what follows the line is the packetizer's.
                byte = self.sock.recv(1)
            except TimeoutError:
                continue
            except OSError:
                self.said_before += line
                raise
            line += byte
            if not byte:
                self.said_before += line
                raise EOFError
            if byte == b"\n":
                if line.startswith(b"SSH-"):
                    return _version(line)
                self.said_before, line = self.said_before + line, b""
        self.said_before += line
        raise NotSSH("no greeting, but much else")

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """See paramiko's: the host key algorithms to offer."""
        return tuple(name for name in self.algorithms if name in self._key_info)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        # The signature names its algorithm itself; it must be the one agreed on (RFC 8332, section 3).
        named = paramiko.Message(sig).get_binary().decode("ascii", "replace")
        if named != self.host_key_type.removesuffix("-cert-v01@openssh.com"):
            raise paramiko.SSHException(f"the host key signs with {named[:50]!r}, not {self.host_key_type}")
        super()._verify_key(host_key, sig)
        self.shown = bytes(host_key)

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        self.farewell = message.get_int(), message.get_binary()[:1000].decode("utf-8", "replace")
        message.rewind()
        super()._parse_disconnect(message)

    # -- keys, exchanged again ---------------------------------------------------------------------------

    def _send_user_message(self, data: paramiko.Message) -> None:
        """See paramiko's, which lets this very thread wait for keys that it alone can receive: what it has
        to answer while they are exchanged (a channel's close, a request) ends the connection after 30 s.
        """
        if threading.current_thread() is self and not self.clear_to_send.is_set() and self.initial_kex_done:
            self._postponed.append(data)
            return
        super()._send_user_message(data)

    def _parse_newkeys(self, message: paramiko.Message) -> None:
        super()._parse_newkeys(message)
        postponed, self._postponed = self._postponed, []
        for data in postponed:
            super()._send_user_message(data)

    # -- login -------------------------------------------------------------------------------------------

    def ask_for_login(self, begin: Callable[[AuthHandler, threading.Event], None]) -> list[str]:
        """One way to log in, `begin`, which calls one auth_… method of the handler with the event.

        Returns [] when we are in, else the methods that the server wants besides. Raises TimeoutError,
        AuthenticationException (the server's no; BadAuthenticationType where it does not take this method at
        all), and what ended the connection.
        """
        done = threading.Event()
        self.auth_handler = _Login(self)
        begin(self.auth_handler, done)
        return self.auth_handler.wait_for_response(done)


def _version(line: bytes) -> str:
    text = line.rstrip(b"\r\n").decode("utf-8", "replace")
    parts = text.split(" ")[0].split("-", 2)
    if len(parts) < 3 or parts[1] not in ("2.0", "1.99"):
        raise paramiko.ssh_exception.IncompatiblePeer(f"it speaks another protocol: {text[:100]!r}")
    return text


class _Login(AuthHandler):  # type: ignore[misc]
    """Sends the login right behind the request for the service that takes it: a server reads one after the
    other, and disconnects where it refuses the first (RFC 4253, section 10).
    """

    allowed: tuple[str, ...] = ()

    def _request_auth(self) -> None:
        transport = self.transport
        if not transport.service_asked:
            transport.service_asked = True
            super()._request_auth()
        # How an RSA key signs depends on what the server tells while it accepts the service (RFC 8308).
        late = self.private_key is not None and "rsa" in self.private_key.get_name()
        if late and not transport.server_extensions:
            self._await(transport.service_accepted)
        accepted = paramiko.Message()
        accepted.add_string("ssh-userauth")
        accepted.rewind()
        self._parse_service_accept(accepted)

    def _await(self, event: threading.Event) -> None:
        if not event.wait(self.transport.auth_timeout):
            raise TimeoutError
        if not self.transport.is_active():
            raise self.transport.get_exception() or EOFError()

    def wait_for_response(self, event: threading.Event) -> list[str]:
        """See paramiko's, which tells a silence and an end of file as a refusal."""
        self._await(event)
        if self.is_authenticated():
            return []
        error = self.transport.get_exception()
        if isinstance(error, paramiko.ssh_exception.PartialAuthentication):
            return list(error.allowed_types)
        if error is None:
            error = paramiko.AuthenticationException("Authentication failed.")
            error.allowed_types = list(self.allowed)
        raise error

    def abort(self) -> None:
        self.transport.service_accepted.set()
        super().abort()

    def _parse_userauth_failure(self, message: paramiko.Message) -> None:
        self.allowed = tuple(message.get_binary().decode("ascii", "replace").split(","))
        message.rewind()
        super()._parse_userauth_failure(message)

    def _accepted(self, message: paramiko.Message) -> None:
        self.transport.service_accepted.set()

    @property
    def _client_handler_table(self) -> dict[int, Any]:
        return {**super()._client_handler_table, MSG_SERVICE_ACCEPT: self._accepted}
