"""Connecting: name, network, greeting, algorithms, host key, login; through jump hosts, if any."""

from __future__ import annotations

import contextlib
import logging
import time

from ...errors import AuthenticationFailed, ConnectionFailed, HostKeyRefused
from ...remote import host_keys
from ...remote.connection import Connection
from ..examination import Examination
from ..rules import slowness
from ..rules.way_in import WayIn, explain
from . import network, second_looks

PATIENCE = 28.0  # seconds for a login that was not answered in ssh.connect_timeout
PINGS = 3
FAR = 0.5  # seconds of round trip; then one ping has to do


def login(e: Examination) -> None:
    """Log in; on failure look at what lets nobody in, and have the rules name it."""
    for hop in _hops(e.connection):
        heard = _Log(hop)
        started, late = time.monotonic(), False
        try:
            hop.open()
        except ConnectionFailed as error:
            took = time.monotonic() - started
            started = time.monotonic()
            late = _waited_longer(e, hop, error)
            if not late:
                explain(e, _way_in(e, hop, error, took, heard.lines))
                return
        e.since = time.monotonic()
        slowness.login(e, hop.host, e.since - started, hop.rules.connect_timeout, late=late)
    for ability in ("port", "greeting", "keys", "login"):
        e.saw(ability)
    _describe(e)
    e.grant("connection")


def _waited_longer(e: Examination, hop: Connection, error: ConnectionFailed) -> bool:
    """Whether a login that was not answered in time is, when it is given more: PAM may take its time."""
    if error.stage != "login" or error.cause != "silent":
        return False
    patient = e.left(PATIENCE)
    with contextlib.suppress(ConnectionFailed):
        hop.connect_timeout = hop.connect_kwargs["auth_timeout"] = patient
        hop.open()
        return True
    return False


def _hops(connection: Connection) -> list[Connection]:
    """The connection and its jump hosts, the first to be opened first."""
    before = connection.gateway
    return [*(_hops(before) if isinstance(before, Connection) else []), connection]


def _way_in(e: Examination, hop: Connection, error: ConnectionFailed, took: float, heard: list[str]) -> WayIn:
    """The attempt, and what second looks show of it."""
    looked = _looked(e, hop, error)
    reason = isinstance(error, HostKeyRefused) and error.problem == "changed"
    return WayIn(
        hop.host, int(hop.port), hop.user, hop.rules.connect_timeout, error, took, heard,
        through=hop.gateway.host if isinstance(hop.gateway, Connection) else "",
        jumping=hop is not e.connection,
        proxy=hop.proxy_command,
        forget=hop.keys.forget(error.file) if isinstance(error, HostKeyRefused) and reason else "",
        keys_file=str(hop.keys.file),
        named_user="@" in hop.address,
        **looked,  # type: ignore[arg-type]  # fields of several types, by name
    )  # fmt: skip


def _looked(e: Examination, hop: Connection, error: ConnectionFailed) -> dict[str, object]:
    """The looks that decide between the causes of this stage."""
    if isinstance(error, AuthenticationFailed) or (hop.proxy_command and error.stage in ("tcp", "greeting")):
        return {}
    if isinstance(error, HostKeyRefused):
        return {"key": second_looks.key_shown(hop)} if error.problem == "changed" else {}
    if error.cause == "incompatible":
        return {"offers": second_looks.greeting(hop, offers=True).offers}
    if error.stage == "tcp":
        return {"route": second_looks.has_route(hop)} if error.cause == "unreachable" else {}
    if error.stage == "greeting":
        patient = second_looks.GREETS_AT_LAST if error.cause == "silent" else second_looks.GREETS_WITHIN
        seen = second_looks.greeting(hop, e.left(patient))
        at_once = seen.greeted and seen.seconds < hop.rules.connect_timeout
        looked = {"greeting": seen, "asked": b"" if seen.text or seen.closed else second_looks.asked(hop)}
        return looked | (_carried(hop) if at_once and error.cause == "silent" else {})
    return _carried(hop) if error.stage in ("key exchange", "login") else {}


def _carried(hop: Connection) -> dict[str, object]:
    """Whether padding gets through; and in small packets, where it does not in those of the usual size."""
    if second_looks.carries(hop):
        return {"carried": True}
    small = hop.gateway is None and second_looks.carries(hop, small=True)
    return {"carried": False, "small": small, "asked": b"" if small else second_looks.asked(hop)}


def _describe(e: Examination) -> None:
    transport = e.connection.transport
    e.facts["server"] = transport.remote_version.removeprefix("SSH-2.0-")
    key = transport.get_remote_server_key()
    e.facts["host key"] = f"{key.get_name()} {host_keys.fingerprint(key.asbytes())}"
    e.facts["cipher"] = str(transport.remote_cipher)
    if sock := network.tcp_socket(e.connection):
        e.facts["address"] = str(sock.getpeername()[0])
    took = []
    for _ in range(PINGS):
        started = time.monotonic()
        if not e.answers(e.left(PATIENCE)) and e.connection.alive:
            raise TimeoutError("the login was accepted, and then the server answered nothing more")
        took.append(time.monotonic() - started)
        if min(took) > FAR:
            break
    e.round_trip = min(took)
    e.facts["round trip"] = f"{e.round_trip * 1000:.0f} ms"
    slowness.after_the_login(e, e.connection.host, took[0] - e.round_trip, e.connection.rules.connect_timeout)
    e.ok("banner-silent", greeting=transport.remote_version)
    e.ok("hostkey-changed", key=e.facts["host key"])
    e.ok("auth-failed", "", login_seconds=e.facts["login"])


class _Log:
    """What paramiko logs about one connection: the only place where it tells a server's last words."""

    def __init__(self, connection: Connection) -> None:
        self.lines: list[str] = []
        name = f"paramiko.transport.examined.{id(self):x}"
        connection.client.set_log_channel(name)
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        handler = logging.Handler()
        # In the place of a subclass that has nothing else.
        handler.emit = lambda record: self.lines.append(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
