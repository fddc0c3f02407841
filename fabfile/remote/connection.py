"""Fabric's Connection, made fit for long work.

It verifies host keys, notices a dead peer, bounds every wait, and comes back after a drop.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import fabric
import paramiko
from paramiko.ssh_exception import NoValidConnectionsError

from .. import address
from ..errors import AuthenticationFailed, ConnectionFailed, ConnectionLost, HostKeyRefused, LinkLost, Stopped
from ..settings import Ssh
from . import host_keys, ssh_config
from .sessions import Sessions
from .transport import Transport
from .watchdog import Watchdog

T = TypeVar("T")

# What the transport may raise when the link dies under it.
LINK_ERRORS = (paramiko.SSHException, EOFError, OSError)

# paramiko logs what it also raises; where nobody has set logging up, that would be tracebacks on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

NOTICE = 1.0  # seconds


class Connection(fabric.Connection):  # type: ignore[misc]
    """One SSH connection with Switchover's rules on it.

    Opening raises ConnectionFailed, HostKeyRefused or AuthenticationFailed.
    """

    # Declared here so that Invoke's DataProxy takes them for attributes of ours, not configuration.
    rules: Ssh = None  # type: ignore[assignment]
    address: str = ""  # as it was given: [user@]host[:port]
    reconnects: int = 0
    connect_kwargs: Any
    transport: Any
    interrupted: threading.Event = None  # type: ignore[assignment]
    on_reconnect: Callable[[str, float], None] | None = None
    _opening: Any = None
    _given: Any = None
    _watchdog: Watchdog | None = None
    _sessions: Sessions | None = None
    _closed: bool = False

    def __init__(self, host: str, rules: Ssh, config: fabric.Config, **kwargs: Any) -> None:
        self.rules = rules
        self.address = host
        self._given = {"config": config, **kwargs}
        self.interrupted = threading.Event()
        self._opening = threading.RLock()
        given = self.derive_shorthand(host)
        answer = ssh_config.resolve(given["host"], config)
        config = config.clone()
        config._set(base_ssh_config=answer.config)
        if answer.jumps and config.gateway is None and kwargs.get("gateway") is None:
            kwargs["gateway"] = _jump(answer.jumps, rules, config)
        super().__init__(host, config=config, **kwargs)
        self.connect_kwargs = self._bounded(self.connect_kwargs, answer)
        self.connect_timeout = rules.connect_timeout

    def derive_shorthand(self, host_string: str) -> dict[str, Any]:
        """See Fabric's, which takes an IPv6 address and its port for one name."""
        given = address.parse(host_string)
        return {"user": given.user, "host": given.host, "port": given.port}

    def again(self, rules: Ssh) -> Connection:
        """Another connection to the same host, by the same ways in, under other rules."""
        return Connection(self.address, rules, **copy.copy(self._given))

    def _bounded(self, given: Mapping[str, Any], answer: ssh_config.Answer) -> dict[str, Any]:
        """Fresh arguments for paramiko (Fabric changes the ones it is given), with a bound on each wait."""
        wanted = copy.copy(dict(given))
        wanted.pop("timeout", None)  # fab -t; settings' connect_timeout has taken its place
        for key in ("banner_timeout", "auth_timeout", "channel_timeout"):
            wanted.setdefault(key, max(self.rules.connect_timeout, 10))
        if answer.identities_only:
            wanted.setdefault("look_for_keys", False)
            wanted.setdefault("allow_agent", False)
        wanted["transport_factory"] = Transport
        return wanted

    def open(self) -> None:
        """Connect, verify the host key, log in, start the watchdog. Does nothing when already open."""
        with self._opening:
            if self.is_connected:
                return
            host_keys.prepare(self.client, self.rules.host_keys, self.rules.known_hosts)
            try:
                super().open()
            except BaseException as error:
                self.client.close()
                told = _explain(error, self)
                if told is None:
                    raise
                raise told from error
            if self._closed:  # while we connected ahead
                self.client.close()
                raise ConnectionFailed("The connection is not needed any more.")
            keepalive = self.rules.keepalive
            self._watchdog = Watchdog(self.transport, keepalive.interval, keepalive.count)
            self._watchdog.start()
            self._sessions = Sessions(self.transport)

    def create_session(self) -> paramiko.Channel:
        """An open session channel. Raises what paramiko raises where the server opens none."""
        self.open()
        assert self._sessions is not None
        return self._sessions.take()

    def close(self) -> None:
        """Close for good. Never raises, never waits for the peer."""
        self._closed = True
        if self._watchdog:
            self._watchdog.stop()
        with contextlib.suppress(*LINK_ERRORS):
            super().close()

    @property
    def alive(self) -> bool:
        """Whether the transport still stands, as far as we have noticed."""
        return bool(self.transport and self.transport.is_active())

    def still_alive(self) -> bool:
        """The same, after an end of file: the transport notices its own death a moment later."""
        deadline = time.monotonic() + NOTICE
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.alive

    def why_dead(self) -> str:
        """What ended the transport, as evidence for a person."""
        if self._watchdog and self._watchdog.fired:
            limit = self._watchdog.limit
            return f"the peer answered nothing for {limit:g} s (ssh.keepalive interval * count)"
        error = self.transport.get_exception() if self.transport else None
        return str(error) if error else "the connection was closed by the other side"

    def persist(self, operation: Callable[[], T], *, repeat: bool = True) -> T:
        """Run `operation`; when the link dies under it, reconnect and, with `repeat`, run it again.

        `operation` must be safe to run twice. Raises ConnectionLost when the window is used up,
        LinkLost where repeating was not allowed.
        """
        for turn in range(self.rules.reconnect.attempts + 1):
            self.stop_if_interrupted()
            try:
                if not self.alive:
                    self.open() if self.transport is None else self.reopen(self.why_dead())
                return operation()
            except LinkLost as lost:
                if not repeat:
                    raise
                cause = lost.why or lost.what
                if turn == self.rules.reconnect.attempts:
                    break
                if not self.alive:
                    self.reopen(cause)
                else:  # only a channel was closed, or the transport has not noticed its own end yet
                    self.pause(min(0.1 * 2**turn, 5))
        raise ConnectionLost(
            f"The connection to {self.original_host} kept dying.",
            f"tried {turn + 1} times; last: {cause}",
            "Run the same command again: what was done is not done twice.",
        )

    def reopen(self, cause: str) -> None:
        """Connect again, with backoff, inside the reconnect window; counts and reports it."""
        with self._opening:  # the lease's thread may come here too
            if not self.alive:
                self._reopen(cause)

    def _reopen(self, cause: str) -> None:
        # Imported here: it brings asyncio along, and most runs never reconnect.
        from tenacity import RetryError, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
        from tenacity.wait import wait_exponential_jitter

        started = time.monotonic()
        window = self.rules.reconnect
        self.client.close()
        attempts = Retrying(
            stop=stop_after_attempt(window.attempts) | stop_after_delay(window.window),
            wait=wait_exponential_jitter(multiplier=0.75, max=5, jitter=0.5),
            retry=retry_if_exception(_transient),
            sleep=self.pause,
        )
        try:
            attempts(self.open)
        except RetryError as error:
            last = error.last_attempt.exception()
            raise ConnectionLost(
                f"The connection to {self.original_host} was lost and could not be had again.",
                f"lost: {cause}; {window.attempts} attempts within {window.window:g} s, last: {last}",
                "When the host answers again, run the same command: what was done is not done twice.",
            ) from last
        self.reconnects += 1
        if self.on_reconnect:
            self.on_reconnect(cause, time.monotonic() - started)

    def stop_if_interrupted(self) -> None:
        """Raise Stopped once the user has pressed Ctrl-C."""
        if self.interrupted.is_set():
            raise Stopped(
                "Interrupted.", "Ctrl-C, or the signal TERM", "Run the same command again to go on."
            )

    def pause(self, seconds: float) -> None:
        """Wait; raises Stopped once the user has pressed Ctrl-C."""
        self.interrupted.wait(seconds)
        self.stop_if_interrupted()


def _transient(error: BaseException) -> bool:
    if isinstance(error, HostKeyRefused | AuthenticationFailed):
        return False
    return isinstance(error, ConnectionFailed)


def _jump(hops: tuple[str, ...], rules: Ssh, config: fabric.Config) -> Connection:
    """The chain of jump hosts, each dialled through the one before it."""
    gateway: Any = False  # False: the first hop has none, whatever the configuration says
    for hop in hops:
        gateway = Connection(hop, rules, config, gateway=gateway)
    assert isinstance(gateway, Connection)
    return gateway


def _explain(error: BaseException, connection: Connection) -> ConnectionFailed | None:
    """Turn what paramiko raises on connecting into an error that helps; None: not ours."""
    where = f"{connection.user}@{connection.host}:{connection.port}"
    cannot = f"No connection to {where}."
    if isinstance(error, ConnectionFailed):
        return error
    if isinstance(error, paramiko.BadHostKeyException):
        name = connection.host if connection.port == 22 else f"[{connection.host}]:{connection.port}"
        return host_keys.changed(error, name, connection.rules.known_hosts)
    if isinstance(error, paramiko.PasswordRequiredException):
        return AuthenticationFailed(
            f"The key for {where} is encrypted.",
            str(error),
            "Load it into ssh-agent (ssh-add), or give `fab --prompt-for-passphrase`.",
        )
    if isinstance(error, paramiko.AuthenticationException) or "authentication methods" in str(error):
        return AuthenticationFailed(
            f"{where} refused the login.",
            f"{error} {_tried(connection)}",
            "Give the right key with `fab -i FILE`, the right user with -H user@host, and see that the "
            "public key stands in ~/.ssh/authorized_keys there (mode 0600, folder 0700).",
        )
    if isinstance(error, socket.gaierror):
        return ConnectionFailed(
            cannot,
            f"the name {connection.host} does not resolve: {error.strerror}",
            "Check the spelling of the host, and the DNS of this machine.",
        )
    if isinstance(error, NoValidConnectionsError):
        reasons = "; ".join(sorted({str(e) for e in error.errors.values()}))
        return ConnectionFailed(
            cannot,
            reasons,
            "Check host and port; is sshd running there, and is the host up?",
        )
    if isinstance(error, TimeoutError) or "No existing session" in str(error):
        # The latter is how paramiko says that there was no greeting in time.
        return ConnectionFailed(
            cannot,
            f"no answer within {connection.rules.connect_timeout:g} s (ssh.connect_timeout)",
            "A firewall may swallow the packets, the host may be down or overloaded, or no SSH server "
            "listens on this port. Try another network.",
        )
    if isinstance(error, LINK_ERRORS):
        return ConnectionFailed(
            cannot,
            f"{type(error).__name__}: {error}",
            "Something answered, but not as an SSH server should. Try `ssh -v` from the same machine.",
        )
    return None


def _tried(connection: Connection) -> str:
    files = connection.connect_kwargs.get("key_filename") or []
    named = ", ".join([files] if isinstance(files, str) else list(files))
    return f"Offered: {named or 'no key by name'}, then the agent's keys and ~/.ssh/id_*."
