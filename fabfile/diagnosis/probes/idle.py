"""Idle connections: left alone in different ways, in parallel, to see which of them live and how others end.

What ends a connection shows in which kinds of it live (measured on each of them in the lab):

    ends by            bare    SSH keepalive    idle SFTP         quiet command, SSH keepalive
    NAT, firewall      silence or reset  ok     silence or reset  ok
    load balancer      FIN     ok               FIN               ok
    UnusedConnection…  FIN     FIN              ok                ok
    ChannelTimeout     ok      ok               channel closed    channel closed
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from paramiko.sftp import CMD_REALPATH

from ...errors import SwitchoverError
from ...events import Waiting
from ...remote.connection import LINK_ERRORS, Connection
from ...remote.sftp_session import NotSftp, SftpSession
from ..examination import ANSWER_WITHIN, Examination
from ..finding import Fix, IdleLife
from .network import tcp_socket

BEAT = 5.0  # seconds between keepalives that hold a connection through nearly anything
KINDS, SHORTEST = 8, 2.0  # connections at most; seconds that show anything
SPACED = 0.25  # seconds between logins, so as not to be taken for an attack
HEARS_WITHIN = 5.0  # seconds for the answer that proves a connection alive
OK, CLOSED, RESET, SILENCE, CHANNEL = "ok", "closed", "reset", "silence", "channel-closed"


@dataclass(frozen=True)
class Kind:
    """How a connection is left alone. keep: seconds between SSH keepalives, 0: none. inside: what it has open
    ("" nothing, "sftp", "quiet" a command that says nothing, "busy"). ladder: idle for ever longer.
    """

    name: str
    keep: float = 0.0
    tcp: bool = False
    inside: str = ""
    ladder: bool = False


@dataclass(frozen=True)
class Life:
    """What became of one of a kind. lived: seconds; end: "" where it never began."""

    kind: Kind
    lived: float
    end: str


def endurance(e: Examination) -> str:
    """Leave one of each kind alone for e.deep seconds, and see what becomes of them."""
    asked = e.deep
    e.deep = min(asked, e.until - time.monotonic() - KINDS * SPACED - 1)
    if e.deep < SHORTEST:
        return "no time was left to watch idle connections"
    beat = max(0.5, min(BEAT, e.settings.ssh.keepalive.interval, e.deep / 6))
    kinds = _kinds(e, beat)
    with ThreadPoolExecutor(len(kinds)) as pool:
        futures = [pool.submit(_live, e, kind, number * SPACED) for number, kind in enumerate(kinds)]
        _tell(e, e.deep + len(kinds) * SPACED, lambda: all(future.done() for future in futures))
        lives = [life for future in futures if (life := future.result()).end]
    e.idle = [IdleLife(life.kind.name, round(life.lived, 1), life.end) for life in lives]
    _judge(e, lives, beat)
    if not lives:
        return "no further connection could be made to be watched"
    return "" if e.deep == asked else f"they were watched for {e.deep:.0f} s only, for want of time"


def _kinds(e: Examination, beat: float) -> list[Kind]:
    interval = e.settings.ssh.keepalive.interval
    sftp = e.has("sftp") and e.settings.ssh.sftp != "off"
    kinds = [
        Kind("nothing"),
        Kind("nothing, longer and longer", ladder=True),
        Kind(f"SSH keepalive every {beat:g} s", keep=beat),
        *(
            [Kind(f"SSH keepalive every {interval:g} s, as configured", keep=interval)]
            if beat < interval < e.deep
            else []
        ),
        Kind("idle SFTP", inside="sftp"),
        Kind("TCP keepalive", tcp=True, inside="quiet"),
        Kind("a quiet command, SSH keepalive", keep=beat, inside="quiet"),
        Kind("a command that speaks", inside="busy"),
    ]
    return [kind for kind in kinds if sftp or kind.inside != "sftp"]


def _tell(e: Examination, total: float, done: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not done():
        passed = time.monotonic() - started
        e.host.emit(Waiting(e.host.name, "idle connections", min(passed, total), total))
        e.connection.pause(0.5)


def _live(e: Examination, kind: Kind, delay: float) -> Life:
    """Open one of this kind, and leave it alone."""
    e.connection.interrupted.wait(delay)
    connection = e.fresh(kind.keep or 3600.0)
    try:
        connection.open()
        if kind.tcp:
            _tcp_keepalive(connection, max(1, round(e.deep / 8)))
        inside = _fill(connection, kind.inside)
        return Life(kind, *_leave_alone(connection, inside, kind, e.deep, e.connection.interrupted))
    except (SwitchoverError, NotSftp, *LINK_ERRORS):
        return Life(kind, 0.0, "")
    finally:
        connection.close()


def _tcp_keepalive(connection: Connection, seconds: int) -> None:
    sock = tcp_socket(connection)
    if sock is not None and hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


def _fill(connection: Connection, inside: str) -> Any:
    transport = connection.transport
    if inside == "sftp":
        return SftpSession(transport.open_session(timeout=ANSWER_WITHIN), ANSWER_WITHIN)
    if not inside:
        return None
    channel = transport.open_session(timeout=ANSWER_WITHIN)
    channel.exec_command("exec cat" if inside == "quiet" else "while :; do echo; sleep 1; done")
    return channel


def _leave_alone(
    connection: Connection, inside: Any, kind: Kind, wait: float, interrupted: threading.Event
) -> tuple[float, str]:
    """Idle once for `wait` seconds, or in steps that double; then see whether it answers."""
    started = time.monotonic()
    step = max(1.0, wait / 32) if kind.ladder else wait
    while True:
        end = _idle(connection, inside, step, interrupted)
        if end == OK:
            end = _answers(connection, inside)
        if end != OK:
            lived = step if kind.ladder or end in (SILENCE, RESET) else time.monotonic() - started
            return lived, end
        left = wait - (time.monotonic() - started)
        if left <= 0 or not kind.ladder:
            return time.monotonic() - started, OK
        step = min(2 * step, left)


def _idle(connection: Connection, inside: Any, seconds: float, interrupted: threading.Event) -> str:
    until = time.monotonic() + seconds
    channel = getattr(inside, "channel", inside)
    while time.monotonic() < until:
        if not connection.alive:
            return _cause(connection)
        if channel is not None and channel.closed:
            return CHANNEL if connection.still_alive() else _cause(connection)
        if channel is not None and not isinstance(inside, SftpSession) and channel.recv_ready():
            channel.recv(4096)
        if interrupted.wait(0.1):
            return OK
    return OK


def _answers(connection: Connection, inside: Any) -> str:
    """Whether it still answers; asking is what brings a NAT's silence, or its reset, to light."""
    heard = threading.Event()

    def ask() -> None:
        with contextlib.suppress(NotSftp, *LINK_ERRORS):
            if isinstance(inside, SftpSession):
                inside.ask(CMD_REALPATH, ".")
            else:
                connection.transport.global_request("keepalive@openssh.com", None, True)
            if connection.alive:
                heard.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    until = time.monotonic() + HEARS_WITHIN
    while time.monotonic() < until and asking.is_alive():
        asking.join(0.1)
    if heard.is_set():
        return OK
    return SILENCE if connection.alive else _cause(connection)


def _cause(connection: Connection) -> str:
    error = connection.transport.get_exception()
    gone = (errno.ECONNRESET, errno.EPIPE)
    return RESET if getattr(error, "errno", None) in gone else CLOSED


def _judge(e: Examination, lives: list[Life], beat: float) -> None:
    """Read the table at the top of this module the other way round."""
    ended = {life.kind.name: life for life in lives if life.end != OK}
    bare = ended.get("nothing")
    ladder = ended.get("nothing, longer and longer")
    sftp = ended.get("idle SFTP")
    kept = next((life for life in ended.values() if life.kind.keep == beat and not life.kind.inside), None)
    chart = {life.kind.name: f"{life.end} after {life.lived:.1f} s" for life in lives}
    if channel := next((life for life in ended.values() if life.end == CHANNEL), None):
        _channel(e, channel, chart)
    if bare and kept and (sftp is None or sftp.end == CHANNEL):
        _unused(e, bare, chart)
    elif bare and kept:
        _everything(e, bare, chart)
    elif bare and bare.end == CLOSED:
        _balancer(e, bare, lives, chart)
    elif dropped := bare or ladder:
        _nat(e, dropped, ladder or dropped, lives, chart)
    _keepalive(e, lives)


def _holds(e: Examination, lives: list[Life], limit: float) -> bool:
    """Whether the keepalive as configured keeps the connection; `limit` seconds without one don't."""
    interval = e.settings.ssh.keepalive.interval
    seen = [life.end == OK for life in lives if life.kind.keep == interval and not life.kind.inside]
    return seen[0] if seen else interval < limit


def _says(e: Examination, setting: str) -> str:
    value = e.facts.get(setting.lower(), "none")
    return "" if value == "none" else f"; its settings say {setting} {value}"


def _channel(e: Examination, life: Life, chart: dict[str, str]) -> None:
    e.warn(
        "idle-channel",
        f"sshd closes channels that are idle for {life.lived:.0f} s.",
        f"“{life.kind.name}” lost its channel after {life.lived:.1f} s, while the connection stayed"
        + _says(e, "ChannelTimeout"),
        "ChannelTimeout does so, and no keepalive helps. Deployments keep their channels busy and reopen "
        "SFTP; a quiet hook of your own is safe too, since it runs without a channel.",
        Fix("sshd_config", "ChannelTimeout none"), seconds=round(life.lived, 1), lives=chart,
    )  # fmt: skip


def _unused(e: Examination, life: Life, chart: dict[str, str]) -> None:
    e.warn(
        "idle-server",
        f"sshd drops connections without a session after {life.lived:.0f} s.",
        f"idle connections without a channel ended after {life.lived:.1f} s, kept alive or not; those with "
        "one lived" + _says(e, "UnusedConnectionTimeout"),
        "UnusedConnectionTimeout does so. Deployments have a channel open nearly always, and reconnect "
        "otherwise.",
        Fix("sshd_config", "UnusedConnectionTimeout none"), seconds=round(life.lived, 1), lives=chart,
    )  # fmt: skip


def _everything(e: Examination, life: Life, chart: dict[str, str]) -> None:
    e.warn(
        "idle-server",
        f"The server drops connections after {life.lived:.0f} s, kept alive or not.",
        f"all kinds ended; the first after {life.lived:.1f} s",
        "Look in its log why (journalctl -u ssh): a limit on the length of sessions, or a watchdog.",
        seconds=round(life.lived, 1), lives=chart,
    )  # fmt: skip


def _balancer(e: Examination, life: Life, lives: list[Life], chart: dict[str, str]) -> None:
    if _holds(e, lives, life.lived):
        held = f"Something closes connections that are idle for {life.lived:.0f} s; the keepalive holds them."
        e.ok("idle-balancer", held, seconds=round(life.lived, 1), lives=chart)
        return
    e.warn(
        "idle-balancer",
        f"Something on the way closes connections that are idle for {life.lived:.0f} s.",
        f"an idle connection was closed in order (FIN) after {life.lived:.1f} s; SSH keepalive held it, "
        "which sshd would not care for",
        "A load balancer or proxy with an idle timeout. Keep the keepalive well below it.",
        _faster(life.lived), seconds=round(life.lived, 1), lives=chart,
    )  # fmt: skip


def _nat(e: Examination, life: Life, ladder: Life, lives: list[Life], chart: dict[str, str]) -> None:
    at_most = min(life.lived, ladder.lived)
    if _holds(e, lives, at_most):
        held = f"A NAT forgets connections idle for {at_most:.0f} s or less; the keepalive holds them."
        e.ok("idle-nat", held, seconds=round(at_most, 1), lives=chart)
        return
    e.warn(
        "idle-nat",
        f"A NAT or firewall forgets connections that are idle for {at_most:.0f} s or less.",
        f"after {at_most:.0f} s of silence the next packet met "
        + ("a reset" if life.end == RESET else "no answer") + "; SSH keepalive held the same connection",
        "Keep the keepalive well below that.",
        _faster(at_most), seconds=round(at_most, 1), end=life.end, lives=chart,
    )  # fmt: skip


def _faster(limit: float) -> Fix:
    return Fix("config.yaml", f"ssh: {{keepalive: {{interval: {_interval(limit):g}, count: 4}}}}")


def _interval(limit: float) -> float:
    return max(0.5, round(limit / 3 * 2) / 2)


def _keepalive(e: Examination, lives: list[Life]) -> None:
    interval = e.settings.ssh.keepalive.interval
    if not (e.bad("idle-nat") or e.bad("idle-balancer")):
        return
    limit = min(life.lived for life in lives if life.end != OK and not life.kind.keep)
    e.warn(
        "keepalive-too-slow",
        f"The keepalive comes every {interval:g} s, after the connection is gone.",
        f"idle connections end after {limit:.1f} s; ssh.keepalive.interval is {interval:g}",
        "Set a shorter one.", _faster(limit), interval=interval, limit=round(limit, 1),
    )  # fmt: skip
