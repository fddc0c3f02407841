"""The network below: what it loses, and what it does to connections that are idle."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from paramiko.sftp import CMD_REALPATH

from ...errors import SwitchoverError
from ...events import Waiting
from ...remote.bare import BareSftp, NotSftp
from ...remote.connection import LINK_ERRORS, Connection
from ..examination import ANSWER_WITHIN, Evidence, Examination
from ..finding import Fix, IdleLife

SENT = 256 * 1024  # bytes, to have something to lose
SENT_WITHIN = 3.0  # seconds
LOSSY = 0.02  # share of segments sent again
FEW = 5  # segments sent again that may be chance

# struct tcp_info of linux/tcp.h: tcpi_total_retrans and tcpi_segs_out.
TCP_INFO_SIZE, RETRANSMITTED_AT, SEGMENTS_AT = 192, 100, 136


def loss(e: Examination) -> str:
    """Send some data, and ask this machine's kernel what it had to send twice."""
    sock = e.connection.transport.sock
    if not isinstance(sock, socket.socket) or not hasattr(socket, "TCP_INFO"):
        return "this machine does not tell what it had to send again"
    before = _counters(sock)
    _send_something(e)
    after = _counters(sock)
    if before is None or after is None:
        return "this machine's kernel does not count what it had to send again"
    again, out = after[0], after[1]
    share = again / max(out, 1)
    evidence: Evidence = {"segments": out, "sent_again": again, "share": round(share, 4)}
    if share < LOSSY or again < FEW:
        e.ok("peer-lossy", **evidence)
        return ""
    e.warn(
        "peer-lossy",
        f"The network loses {share * 100:.0f} % of what is sent.",
        f"{again} of {out} TCP segments had to be sent again",
        "Uploads are slow, and long connections die. Try a cable, another network, or a host nearer to the "
        "server (CI). Deployments reconnect and go on meanwhile.",
        **evidence,
    )  # fmt: skip
    return ""


def _counters(sock: socket.socket) -> tuple[int, int] | None:
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    if len(data) < SEGMENTS_AT + 4:
        return None
    return (
        struct.unpack_from("=I", data, RETRANSMITTED_AT)[0],
        struct.unpack_from("=I", data, SEGMENTS_AT)[0],
    )


def _send_something(e: Examination) -> None:
    channel = e.session()
    until = time.monotonic() + SENT_WITHIN
    sent, block = 0, bytes(32768)
    with contextlib.suppress(OSError, EOFError):
        channel.settimeout(0.5)
        channel.exec_command("exec cat >/dev/null")
        while sent < SENT and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                sent += channel.send(block)
    channel.close()


# -- idle connections ------------------------------------------------------------------------------------

SPACED = 0.25  # seconds between logins, so as not to be taken for an attack
HEARS_WITHIN = 5.0  # seconds for the answer that proves a connection alive
OK, CLOSED, RESET, SILENCE, CHANNEL = "ok", "closed", "reset", "silence", "channel-closed"


@dataclass
class Watched:
    """One idle connection. keep: seconds between keepalives of SSH, 0: none."""

    name: str
    keep: float = 0.0
    tcp: bool = False
    inside: str = ""  # what it has open: "" nothing, "sftp", "quiet" a command that says nothing, "busy"
    ladder: bool = False  # idle for ever longer, instead of once for the whole time


def endurance(e: Examination) -> None:
    """Leave connections alone in different ways, in parallel, and see which of them live."""
    wait = e.deep
    beat = max(0.5, min(e.settings.ssh.keepalive.interval, wait / 4))
    kinds = [
        Watched("nothing"),
        Watched("nothing, longer and longer", ladder=True),
        Watched(f"SSH keepalive every {beat:g} s", keep=beat),
        Watched("idle SFTP", inside="sftp"),
        Watched("TCP keepalive", tcp=True, inside="quiet"),
        Watched("a quiet command, SSH keepalive", keep=beat, inside="quiet"),
        Watched("a command that speaks", inside="busy"),
    ]
    if e.settings.ssh.sftp == "off" or not e.has("sftp"):
        kinds = [kind for kind in kinds if kind.inside != "sftp"]
    stop = threading.Event()
    with ThreadPoolExecutor(len(kinds)) as pool:
        lives = [
            pool.submit(_live, e, kind, number * SPACED, wait, stop) for number, kind in enumerate(kinds)
        ]
        _tell(e, wait + len(kinds) * SPACED, lambda: all(life.done() for life in lives), stop)
        found = {kind.name: life.result() for kind, life in zip(kinds, lives, strict=True)}
    e.idle = [IdleLife(name, round(lived, 1), end) for name, (lived, end) in found.items() if end]
    by_kind = {kind.name: (kind, *found[kind.name]) for kind in kinds}
    _judge(e, [item for item in by_kind.values() if item[2]], wait, beat)


def _tell(e: Examination, total: float, done: Callable[[], bool], stop: threading.Event) -> None:
    started = time.monotonic()
    try:
        while not done():
            passed = time.monotonic() - started
            e.host.emit(Waiting(e.host.name, "idle connections", min(passed, total), total))
            e.connection.pause(0.5)
    finally:
        stop.set()


def _live(
    e: Examination, kind: Watched, delay: float, wait: float, stop: threading.Event
) -> tuple[float, str]:
    """How long a connection of this kind lived, and how it ended; "" where it never began."""
    e.connection.interrupted.wait(delay)
    connection = e.fresh(kind.keep or 3600.0)
    try:
        connection.open()
        if kind.tcp:
            _tcp_keepalive(connection, max(1, round(wait / 8)))
        inside = _fill(connection, kind.inside)
        return _leave_alone(connection, inside, kind, wait, e.connection.interrupted)
    except (SwitchoverError, NotSftp, *LINK_ERRORS):
        return 0.0, ""
    finally:
        connection.close()


def _tcp_keepalive(connection: Connection, seconds: int) -> None:
    sock = connection.transport.sock
    if isinstance(sock, socket.socket) and hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


def _fill(connection: Connection, inside: str) -> Any:
    transport = connection.transport
    if inside == "sftp":
        return BareSftp(transport, ANSWER_WITHIN)
    if not inside:
        return None
    channel = transport.open_session(timeout=ANSWER_WITHIN)
    channel.exec_command("exec cat" if inside == "quiet" else "while :; do echo; sleep 1; done")
    return channel


def _leave_alone(
    connection: Connection, inside: Any, kind: Watched, wait: float, interrupted: threading.Event
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
        if time.monotonic() - started >= wait or not kind.ladder:
            return time.monotonic() - started, OK
        step *= 2


def _idle(connection: Connection, inside: Any, seconds: float, interrupted: threading.Event) -> str:
    until = time.monotonic() + seconds
    channel = getattr(inside, "channel", inside)
    while time.monotonic() < until:
        if not connection.alive:
            return _cause(connection)
        if channel is not None and channel.closed:
            return CHANNEL if connection.still_alive() else _cause(connection)
        if channel is not None and not isinstance(inside, BareSftp) and channel.recv_ready():
            channel.recv(4096)
        if interrupted.wait(0.1):
            return OK
    return OK


def _answers(connection: Connection, inside: Any) -> str:
    """Whether it still answers; asking is what brings a NAT's silence, or its reset, to light."""
    heard = threading.Event()

    def ask() -> None:
        with contextlib.suppress(NotSftp, *LINK_ERRORS):
            if isinstance(inside, BareSftp):
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


Life = tuple[Watched, float, str]


def _judge(e: Examination, lives: list[Life], wait: float, beat: float) -> None:
    """The table of what ended and what did not (see FINDINGS below) names the one that ended it."""

    def ended(*, keep: bool, tcp: bool = False, inside: str = "") -> Life | None:
        return next(
            (
                x
                for x in lives
                if x[2] != OK and bool(x[0].keep) == keep and x[0].tcp == tcp and x[0].inside == inside
            ),
            None,
        )

    bare = next((x for x in lives if x[0].name == "nothing" and x[2] != OK), None)
    ladder = next((x for x in lives if x[0].ladder and x[2] != OK), None)
    kept, sftp = ended(keep=True), ended(keep=False, inside="sftp")
    quiet_kept, quiet_tcp = ended(keep=True, inside="quiet"), ended(keep=False, tcp=True, inside="quiet")
    chart = {x[0].name: f"{x[2]} after {x[1]:.1f} s" for x in lives}
    channel = next((x for x in (sftp, quiet_kept, quiet_tcp) if x and x[2] == CHANNEL), None)
    if channel:
        _channel(e, channel, chart)
    if bare and kept and not (sftp and sftp[2] != CHANNEL):
        _unused(e, bare, chart)
    elif bare and bare[2] == CLOSED and not kept:
        _balancer(e, bare, chart, beat)
    elif (bare or ladder) and not kept:
        _nat(e, bare or ladder, ladder, chart, wait)
    elif bare and kept:
        _everything(e, bare, chart)
    _keepalive(e, lives)


def _says(e: Examination, setting: str) -> str:
    value = e.facts.get(setting.lower(), "none")
    return "" if value == "none" else f"; its settings say {setting} {value}"


def _channel(e: Examination, life: Life, chart: dict[str, str]) -> None:
    e.warn(
        "idle-channel",
        f"sshd closes channels that are idle for {life[1]:.0f} s.",
        f"“{life[0].name}” lost its channel after {life[1]:.1f} s, while the connection stayed"
        + _says(e, "ChannelTimeout"),
        "ChannelTimeout does so, and no keepalive helps. Deployments keep their channels busy and reopen "
        "SFTP; a quiet hook of your own is safe too, since it runs without a channel.",
        Fix("sshd_config", "ChannelTimeout none"), seconds=round(life[1], 1), lives=chart,
    )  # fmt: skip


def _unused(e: Examination, life: Life, chart: dict[str, str]) -> None:
    e.warn(
        "idle-server",
        f"sshd drops connections without a session after {life[1]:.0f} s.",
        f"idle connections without a channel ended after {life[1]:.1f} s, kept alive or not; those with "
        "one lived" + _says(e, "UnusedConnectionTimeout"),
        "UnusedConnectionTimeout does so. Deployments have a channel open nearly always, and reconnect "
        "otherwise.",
        Fix("sshd_config", "UnusedConnectionTimeout none"), seconds=round(life[1], 1), lives=chart,
    )  # fmt: skip


def _everything(e: Examination, life: Life, chart: dict[str, str]) -> None:
    e.warn(
        "idle-server",
        f"The server drops connections after {life[1]:.0f} s, kept alive or not.",
        f"all kinds ended; the first after {life[1]:.1f} s",
        "Look in its log why (journalctl -u ssh): a limit on the length of sessions, or a watchdog.",
        seconds=round(life[1], 1), lives=chart,
    )  # fmt: skip


def _balancer(e: Examination, life: Life, chart: dict[str, str], beat: float) -> None:
    if e.settings.ssh.keepalive.interval < life[1]:
        held = f"Something closes connections that are idle for {life[1]:.0f} s; the keepalive holds them."
        e.ok("idle-balancer", held, seconds=round(life[1], 1), lives=chart)
        return
    e.warn(
        "idle-balancer",
        f"Something on the way closes connections that are idle for {life[1]:.0f} s.",
        f"an idle connection was closed in order (FIN) after {life[1]:.1f} s; SSH keepalive held it, which "
        "sshd would not have cared for",
        "A load balancer or proxy with an idle timeout. Keep the keepalive well below it.",
        _faster(life[1]), seconds=round(life[1], 1), held_by=f"SSH keepalive every {beat:g} s", lives=chart,
    )  # fmt: skip


def _nat(e: Examination, life: Life | None, ladder: Life | None, chart: dict[str, str], wait: float) -> None:
    assert life is not None
    at_most = min(x[1] for x in (life, ladder) if x)
    if e.settings.ssh.keepalive.interval < at_most:
        held = (
            f"A NAT forgets connections that are idle for {at_most:.0f} s or less; the keepalive holds them."
        )
        e.ok("idle-nat", held, seconds=round(at_most, 1), lives=chart)
        return
    e.warn(
        "idle-nat",
        f"A NAT or firewall forgets connections that are idle for {at_most:.0f} s or less.",
        f"after {at_most:.0f} s of silence the next packet met "
        + ("a reset" if life[2] == RESET else "no answer") + "; SSH keepalive held the same connection",
        "Keep the keepalive well below that.",
        _faster(at_most), seconds=round(at_most, 1), end=life[2], lives=chart,
    )  # fmt: skip


def _faster(limit: float) -> Fix:
    return Fix("config.yaml", f"ssh: {{keepalive: {{interval: {_interval(limit):g}, count: 4}}}}")


def _interval(limit: float) -> float:
    return max(0.5, round(limit / 3 * 2) / 2)


def _keepalive(e: Examination, lives: list[Life]) -> None:
    interval = e.settings.ssh.keepalive.interval
    if not (e.bad("idle-nat") or e.bad("idle-balancer")):
        return
    limit = min(life[1] for life in lives if life[2] != OK and not life[0].keep)
    e.warn(
        "keepalive-too-slow",
        f"The keepalive comes every {interval:g} s, after the connection is gone.",
        f"idle connections end after {limit:.1f} s; ssh.keepalive.interval is {interval:g}",
        "Set a shorter one.", _faster(limit), interval=interval, limit=round(limit, 1),
    )  # fmt: skip
