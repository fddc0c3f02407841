"""Fabric's Connection, made fit for long work.

It verifies host keys, notices a dead peer, bounds every wait, and comes back after a drop.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import fabric
import paramiko

from .. import address, interruption
from ..errors import ConfigError, ConnectionFailed, ConnectionLost, LinkLost, Stopped
from ..settings import Ssh
from . import ssh_config
from .attempts import Attempts
from .client import Client, ProxyCommand
from .failures import explain
from .host_keys import HostKeys
from .identities import Ways
from .sessions import ENOUGH, Sessions
from .watchdog import Watchdog

T = TypeVar("T")

# What the transport may raise when the link dies under it.
LINK_ERRORS = (paramiko.SSHException, EOFError, OSError)

# paramiko logs what it also raises; where nobody has set logging up, that would be tracebacks on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

NOTICE = 1.0  # seconds
JUMPS_LIMIT = 8


class Connection(fabric.Connection):  # type: ignore[misc]
    """One SSH connection with Switchover's rules on it.

    Opening raises ConnectionFailed, HostKeyRefused or AuthenticationFailed.
    """

    # Declared here so that Invoke's DataProxy takes them for attributes of ours, not configuration.
    rules: Ssh = None  # type: ignore[assignment]  # set by __init__
    address: str = ""  # as it was given: [user@]host[:port]
    reconnects: int = 0
    connect_kwargs: Any
    transport: Any
    interrupted: threading.Event = None  # type: ignore[assignment]  # set by __init__
    on_reconnect: Callable[[str, float], None] | None = None
    on_note: Callable[[str, str], None] | None = None  # is given a level, info or warn, and a text
    keys: HostKeys = None  # type: ignore[assignment]  # set by __init__
    _tokens: Mapping[str, str] = {}
    on_scarce: Callable[[int], None] = staticmethod(lambda allowed: None)  # see Sessions
    _opening: Any = None
    _given: Any = None
    _watchdog: Watchdog | None = None
    _sessions: Sessions | None = None
    _closed: bool = False
    _attempts: Any = None
    input_is_read: bool | None = None  # whether start-up files read standard input to its end; None: unknown

    def __init__(
        self, host: str, rules: Ssh, config: fabric.Config, *, depth: int = 0, **kwargs: Any
    ) -> None:
        self.rules = rules
        self.address = host
        self._given = {"config": config, **kwargs}
        self.interrupted = threading.Event()
        self._opening = threading.RLock()
        self._attempts = Attempts(rules.reconnect, self.open, self.pause, self.tell)
        answer = ssh_config.resolve(address.parse(host), config)
        self._tokens = answer.tokens
        config = config.clone()
        config._set(base_ssh_config=answer.config)
        if answer.jumps and config.gateway is None and kwargs.get("gateway") is None:
            kwargs["gateway"] = _jump(answer.jumps, rules, config, depth)
        super().__init__(host, config=config, **kwargs)
        self.connect_timeout = rules.connect_timeout
        self.keys = HostKeys(self.host, int(self.port), rules, answer.host_keys, self.tell)
        self.connect_kwargs, ways = _bounded(self.connect_kwargs, answer, rules)
        self.client = Client(self.keys, ways)

    def derive_shorthand(self, host_string: str) -> dict[str, Any]:
        """See Fabric's, which takes an IPv6 address and its port for one name."""
        given = address.parse(host_string)
        return {"user": given.user, "host": given.host, "port": given.port}

    def again(self, rules: Ssh) -> Connection:
        """Another connection to the same host, by the same ways in, under other rules."""
        return Connection(self.address, rules, **copy.copy(self._given))

    @property
    def proxy_command(self) -> str:
        """The command whose input and output is the connection, its tokens replaced; "": none."""
        gateway = self.gateway
        return ssh_config.expand_command(gateway, self._tokens) if isinstance(gateway, str) else ""

    @property
    def ways(self) -> Ways:
        """What there is to log in with."""
        return self.client.ways

    def tell(self, level: str, text: str) -> None:
        """Tell a person something; level is info or warn."""
        if self.on_note:
            self.on_note(level, text)

    def open(self) -> None:
        """Connect, verify the host key, log in, start the watchdog. Does nothing when already open."""
        with self._opening:
            if self.is_connected:
                return
            self.client.close()  # what is left of an attempt before
            try:
                super().open()
            except BaseException as error:
                refusal = _refusal(self, error)
                self.client.close()
                if refusal is None or refusal is error:
                    raise
                raise refusal from error
            if self._closed:  # while we connected ahead
                self.client.close()
                raise ConnectionFailed("The connection is not needed any more.")
            self._watchdog = _watched(self.transport, self.rules)
            self._sessions = _counted(self, self._sessions.allowed if self._sessions else None)

    def open_gateway(self) -> Any:
        """See Fabric's, which runs a ProxyCommand without a shell and waits for a jump host without end."""
        if isinstance(self.gateway, str):
            self.client.proxy = ProxyCommand(self.proxy_command)
            return self.client.proxy.sock
        self.gateway.on_note = self.on_note
        self.gateway.open()
        return _open_through(self.gateway.transport, self.host, int(self.port), self.rules.connect_timeout)

    @property
    def few_sessions(self) -> bool:
        """Whether the server was seen to allow so few sessions that one may have to wait for another.

        One that is just ending counts on the server, and not here: so it may allow one less than was seen.
        """
        allowed = self._sessions.allowed if self._sessions else None
        return allowed is not None and allowed < ENOUGH

    def allow_sessions(self, allowed: int) -> None:
        """Keep to so many sessions at a time from now on: that is how many the server was seen to allow."""
        if self._sessions:
            self._sessions.allowed = allowed

    def create_session(self, *, optional: bool = False) -> paramiko.Channel:
        """An open session channel; see Sessions.take. Raises what paramiko raises where there is none.

        It does not connect: that is persist's, which tries more than once.
        """
        if self._sessions is None or not self.alive:
            raise paramiko.SSHException(self.why_dead())
        return self._sessions.take(optional=optional)

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
        return _persist(self, operation, repeat)

    def reach(self) -> None:
        """Connect for the first time: see Attempts.first."""
        with self._opening:
            self._attempts.first()

    def reopen(self, cause: str) -> None:
        """Connect again, with backoff, inside the reconnect window; counts and reports it."""
        with self._opening:  # the lease's thread may come here too
            if self.alive:
                return
            started = time.monotonic()
            self.client.close()
            self._attempts.again(self.original_host, cause)
            self.reconnects += 1
            if self.on_reconnect:
                self.on_reconnect(cause, time.monotonic() - started)

    def stop_if_interrupted(self) -> None:
        """Raise Stopped once the user has pressed Ctrl-C."""
        if self.interrupted.is_set():
            asked = interruption.current.asked or "Ctrl-C"
            raise Stopped("Interrupted.", asked, "Run the same command again to go on.")

    def pause(self, seconds: float) -> None:
        """Wait; raises Stopped once the user has pressed Ctrl-C."""
        self.interrupted.wait(seconds)
        self.stop_if_interrupted()


def _open_through(transport: Any, host: str, port: int, timeout: float) -> Any:
    """A channel to a host behind a jump host. Raises TimeoutError, and what Paramiko raises."""
    until = time.monotonic() + timeout
    try:
        return transport.open_channel("direct-tcpip", (host, port), ("", 0), timeout=timeout)
    except paramiko.ChannelException:
        raise
    except paramiko.SSHException as error:
        if time.monotonic() >= until:  # paramiko has only words for it
            raise TimeoutError from error
        raise


def _persist(connection: Connection, operation: Callable[[], T], repeat: bool) -> T:
    for attempt in range(connection.rules.reconnect.attempts + 1):
        connection.stop_if_interrupted()
        try:
            if not connection.alive:
                if connection.transport is None:
                    connection.reach()
                else:
                    connection.reopen(connection.why_dead())
            return operation()
        except LinkLost as lost:
            if not repeat:
                raise
            cause = lost.why or lost.what
            if attempt == connection.rules.reconnect.attempts:
                break
            if not connection.alive:
                connection.reopen(cause)
            else:  # only a channel was closed, or the transport has not noticed its own end yet
                connection.pause(min(0.1 * 2**attempt, 5))
    raise _kept_dying(connection.original_host, attempt + 1, cause)


def _kept_dying(host: str, times: int, cause: str) -> ConnectionLost:
    return ConnectionLost(
        f"The connection to {host} kept dying.",
        f"tried {times} times; last: {cause}",
        "Run the same command again: what was done is not done twice.",
    )


def _bounded(given: Mapping[str, Any], answer: ssh_config.Answer, rules: Ssh) -> tuple[dict[str, Any], Ways]:
    """Fresh arguments for paramiko (Fabric changes what it is given), and the keys that they name."""
    wanted = copy.copy(dict(given))
    wanted.pop("timeout", None)  # fab -t; settings' connect_timeout has taken its place
    wanted.setdefault("channel_timeout", max(rules.connect_timeout, 10))
    files = wanted.get("key_filename") or []
    files = [files] if isinstance(files, str) else list(files)
    files = list(dict.fromkeys([*files, *answer.identities]))
    wanted["key_filename"] = files
    ways = Ways(
        files=tuple(files),
        certificates=answer.certificates,
        agent=answer.agent if wanted.get("allow_agent", True) else "none",
        only=answer.identities_only,
        # As ssh does: where keys are named in ssh_config, those that have the usual names are not tried.
        defaults=wanted.get("look_for_keys", True) and not answer.identities,
        key=wanted.get("pkey"),
        password=wanted.get("password"),
        passphrase=wanted.get("passphrase"),
    )
    return wanted, ways


def _jump(hops: tuple[str, ...], rules: Ssh, config: fabric.Config, depth: int) -> Connection:
    """The chain of jump hosts, each dialled through the one before it. As with ssh, only the first may have a
    ProxyJump of its own.
    """
    if depth >= JUMPS_LIMIT:
        raise ConfigError(
            "ssh_config jumps from host to host without end.",
            f"ProxyJump {','.join(hops)}, {depth} hosts deep",
            "Exclude the jump host from the section: Host * !jump",
        )
    gateway: Any = None
    for hop in hops:
        gateway = Connection(hop, rules, config, gateway=gateway, depth=depth + 1)
    assert isinstance(gateway, Connection)
    return gateway


def _watched(transport: paramiko.Transport, rules: Ssh) -> Watchdog:
    watchdog = Watchdog(transport, rules.keepalive.interval, rules.keepalive.count)
    watchdog.start()
    return watchdog


def _refusal(connection: Connection, error: BaseException) -> BaseException | None:
    """What to raise for an error of connecting; None for one that is nobody's answer."""
    where = f"{connection.user}@{connection.host}:{connection.port}"
    attempt = connection.client.attempt(where, connection.host, connection.rules.connect_timeout)
    return explain(error, attempt)


def _counted(connection: Connection, allowed: int | None) -> Sessions:
    enough = ENOUGH if connection.rules.sftp == "auto" else ENOUGH - 1
    return Sessions(
        connection.transport, enough=enough, allowed=allowed, on_scarce=lambda n: connection.on_scarce(n)
    )
