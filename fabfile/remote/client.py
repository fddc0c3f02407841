"""Making a connection: dial, greeting and keys, host key, login. Each stage has a bound of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from typing import IO, Any

import paramiko

from .failures import Attempt
from .host_keys import HostKeys
from .identities import Ways
from .login import Login
from .transport import Transport

PROXY_TOLD_WITHIN = 1.0  # seconds for a ProxyCommand that has closed its output to end
PROXY_SAID_LIMIT = 500  # characters of its last words


class Client(paramiko.SSHClient):  # type: ignore[misc]
    """paramiko's client, which Fabric drives, with our own way to connect.

    keys: the verdict about host keys. ways: what there is to log in with.
    """

    def __init__(self, keys: HostKeys, ways: Ways) -> None:
        super().__init__()
        self.keys = keys
        self.ways = ways
        self._begun = 0.0  # the stage that we are in
        self.proxy: ProxyCommand | None = None

    def connect(self, hostname: str, port: int = 22, username: str | None = None, **given: Any) -> Any:
        """See paramiko's; of its options these count: sock, timeout (seconds for each stage), compress,
        channel_timeout, auth_timeout, disabled_algorithms, auth_strategy.

        Raises HostKeyRefused, AuthenticationFailed, and what paramiko and the sockets raise.
        """
        timeout = given["timeout"]
        self._transport = None
        self._begin()
        self.keys.read()
        sock = given.get("sock") or dial(hostname, port, timeout)
        transport = self._transport = Transport(sock, disabled_algorithms=given.get("disabled_algorithms"))
        transport.use_compression(compress=given.get("compress", False))
        if self._log_channel is not None:
            transport.set_log_channel(self._log_channel)
        transport.algorithms = self.keys.algorithms()
        transport.auth_timeout = given.get("auth_timeout") or timeout
        transport.channel_timeout = given.get("channel_timeout") or timeout
        self._begin()
        transport.exchange_keys(timeout)
        self.keys.check(transport.shown)
        self._begin()
        if given.get("auth_strategy") is not None:
            return given["auth_strategy"].authenticate(transport=transport)
        Login(transport, username or "", f"{username}@{hostname}:{port}", self.ways).run()
        return None

    def _begin(self) -> None:
        self._begun = time.monotonic()

    def attempt(self, where: str, host: str, timeout: float) -> Attempt:
        """What is known about the attempt that has just failed."""
        said = self.proxy.ended() if self.proxy else None
        lasted = time.monotonic() - self._begun
        return Attempt(where, host, self._transport, lasted, timeout, said, self.proxy is not None)

    def close(self) -> None:
        """Close; what a ProxyCommand still runs is ended."""
        super().close()
        if self.proxy:
            self.proxy.end()
            self.proxy = None


def dial(host: str, port: int, timeout: float) -> socket.socket:
    """A connected socket, to the first address that answers; each has `timeout` seconds.

    Raises gaierror; what the last address said, or NoValidConnectionsError where all refuse.
    """
    errors: dict[Any, OSError] = {}
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            sock = socket.socket(family, kind)  # refused where this machine lacks IPv6
        except OSError as error:
            errors[address] = error
            continue
        try:
            sock.settimeout(timeout)
            sock.connect(address)
        except OSError as error:
            sock.close()
            errors[address] = error
        else:
            return sock
    silent = [error for error in errors.values() if isinstance(error, TimeoutError)]
    if silent:
        raise silent[0]
    raise paramiko.ssh_exception.NoValidConnectionsError(errors)


class ProxyCommand:
    """A ProxyCommand that runs, as ssh runs it: by the user's shell, its standard input and output a socket.

    paramiko's knows no shell, and its socket no time-out.
    """

    def __init__(self, command: str) -> None:
        self.sock, theirs = socket.socketpair()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in end())
        shell = os.environ.get("SHELL") or "/bin/sh"
        with theirs:
            self._process = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                start_new_session=True,
            )

    def ended(self) -> tuple[int, str] | None:
        """Its status and last words, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PROXY_TOLD_WITHIN)
        if self._process.returncode is None:
            return None
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - PROXY_SAID_LIMIT))
        return self._process.returncode, self._said.read().decode("utf-8", "replace").strip()

    def end(self) -> None:
        """End it, and what it has started."""
        self.sock.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PROXY_TOLD_WITHIN)
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._said.close()
