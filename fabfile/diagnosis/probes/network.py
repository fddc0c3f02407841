"""The network below: whether a megabyte gets through each way, how fast, and what has to be sent twice."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import paramiko

from ...errors import SwitchoverError
from ...remote.connection import Connection
from ...remote.request import Request
from ..examination import Examination, Unanswered
from ..rules import network as rules
from ..rules import shell as shell_rules
from ..rules.network import SENT, Flow
from . import second_looks

SENT_WITHIN = 5.0  # seconds for each way; a slow network has sent less by then
BLOCK = 32_768  # bytes
PIECES = (8192, 65_536, 262_144, SENT - 8192 - 65_536 - 262_144)  # bytes
PIECE_WITHIN = 8.0  # seconds
STALLED = 4.0  # seconds without a byte, where bytes are due
BEGINS_WITHIN, NUDGE = 8.0, 2.0  # seconds
NO_INPUT = "no input"
NO_SYNC = 75  # the status of a request that meets the end of its input before ours
FIRST = 6_000  # bytes: some large packets each way

# struct tcp_info of linux/tcp.h: tcpi_total_retrans and tcpi_segs_out.
TCP_INFO_SIZE, RETRANSMITTED_AT, SEGMENTS_AT = 192, 100, 136


def tcp_socket(connection: Connection) -> socket.socket | None:
    """The TCP connection below, or None: a jump host's channel or a ProxyCommand's pipe is in its place."""
    sock = connection.transport.sock
    return sock if isinstance(sock, socket.socket) and sock.family != socket.AF_UNIX else None


def loss(e: Examination) -> str:
    """Ask this machine's kernel what of all that was sent it had to send twice."""
    sock = tcp_socket(e.connection)
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return "this machine does not tell what it had to send again"
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    if len(data) < SEGMENTS_AT + 4:
        return "this machine's kernel does not count what it had to send again"
    again, out = (struct.unpack_from("=I", data, at)[0] for at in (RETRANSMITTED_AT, SEGMENTS_AT))
    rules.losses(e, again, out)
    return ""


_PREFIX = "exec /bin/sh -c 'PATH=$PATH:/usr/bin:/bin; "


def bulk(e: Examination) -> str:
    """A megabyte each way, as a deployment has it: does it arrive, and how fast?"""
    flows: list[Flow] = []
    for ability, way in (("upload", _up), ("download", _down)):
        flow = way(e)
        flows.append(flow)
        answer = {"whole": "seen", "time": "seen", "unknown": "unknown"}.get(flow.end, "not seen")
        e.note(ability, answer, str(flow), flow.seconds)  # type: ignore[arg-type]  # one of three words
        if flow.end == NO_INPUT:
            shell_rules.no_input(e, e.connection.user, str(flow))
            return "what is sent does not reach the commands"
        if flow.end in ("stalled", "cut"):
            _broken(e, flows)
            return ""
    if any(flow.end == "unknown" for flow in flows):
        return "the host did not take or give what was asked of it: " + "; ".join(map(str, flows))
    rules.fast_enough(e, flows)
    return ""


def _up(e: Examination) -> Flow:
    """Send in pieces, each confirmed: what this machine's kernel has taken has not arrived yet."""
    meter = _Meter(e, "up")
    asked = Request.of(f"for n in {' '.join(map(str, PIECES))}; do head -c $n | wc -c; done", takes_data=True)
    with meter.watching(asked.text.decode("ascii")):
        if not meter.began(asked):
            return meter.flow()
        rate = float(SENT)  # bytes a second, of the piece before
        for piece in PIECES:
            if piece / rate > SENT_WITHIN:
                return meter.flow("time")
            began = time.monotonic()
            meter.send(piece)
            arrived = meter.number()
            if arrived != piece:
                meter.cause = f"of {piece} bytes {arrived} reached the command's standard input"
                return meter.flow(NO_INPUT if arrived == 0 else "")
            meter.size += piece
            rate = piece / max(time.monotonic() - began - e.round_trip, 0.01)
    return meter.flow()


def _down(e: Examination) -> Flow:
    meter = _Meter(e, "down")
    asked = Request.of(f"exec head -c {SENT} /dev/zero")
    with meter.watching(asked.text.decode("ascii")):
        if not meter.began(asked):
            return meter.flow()
        meter.size = len(meter.said)
        until = time.monotonic() + e.left(SENT_WITHIN)
        while meter.size < SENT:
            block = meter.receive()
            if not block:
                return meter.flow()
            meter.size += len(block)
            if time.monotonic() > until:
                return meter.flow("time")
    return meter.flow()


class _Meter:
    """Bytes through a channel of their own, with an eye on the clock. size: those that have arrived."""

    def __init__(self, e: Examination, way: str) -> None:
        self.e = e
        self.way = way
        self.size = 0
        self.started = time.monotonic()
        self.cause = ""
        self.said = b""  # of what has come, that which was not taken yet
        self.stalled = False
        self.waits = False  # for a command that takes input to begin
        self.channel = e.session()

    @contextlib.contextmanager
    def watching(self, command: str) -> Iterator[None]:
        """While `command` takes or gives them; whatever ends it is kept as the cause."""
        self.channel.settimeout(STALLED + 2 * self.e.round_trip)
        try:
            self.channel.exec_command(command)
            self.started = time.monotonic()
            yield
        except TimeoutError:
            self.stalled = True
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.cause = str(error) or type(error).__name__
        finally:
            self.channel.close()

    def began(self, asked: Request) -> bool:
        """Whether the command has begun. A start-up file that reads gets empty lines, or the end."""
        until, self.waits = time.monotonic() + self.e.left(BEGINS_WITHIN), bool(asked.sync)
        if not asked.sync:
            self.channel.shutdown_write()
        self.channel.settimeout(NUDGE)
        while asked.mark not in self.said:
            try:
                block = self.receive()
            except TimeoutError:
                if time.monotonic() > until:
                    raise
                if asked.sync:
                    self.channel.sendall(b"\n")
                continue
            if not block:
                return False
            self.said += block
        self.said, self.waits = self.said.partition(asked.mark)[2], False
        self.channel.settimeout(STALLED + 2 * self.e.round_trip)
        if asked.sync:
            self.channel.sendall(asked.sync)
        return True

    def send(self, size: int) -> None:
        for at in range(0, size, BLOCK):
            self.channel.sendall(bytes(min(BLOCK, size - at)))

    def receive(self) -> bytes:
        return bytes(self.channel.recv(65536))

    def number(self) -> int | None:
        """The number on the next line; longer than one wait, since much may be on its way."""
        self.channel.settimeout(PIECE_WITHIN)
        while b"\n" not in self.said:
            block = self.receive()
            if not block:
                return None
            self.said = (self.said + block)[-4096:]
        line, _, self.said = self.said.partition(b"\n")
        return int(line) if line.strip().isdigit() else None

    def flow(self, end: str = "") -> Flow:
        """What came of it. Where the host's program has ended while the connection lives, it is unknown."""
        cause = self.cause
        if self.channel.exit_status_ready() and self.channel.exit_status == NO_SYNC:
            end = NO_INPUT
        elif self.stalled and self.waits and self.e.answers():  # all else gets through
            end, cause = NO_INPUT, "the command does not begin while its input is open"
        elif not end and self.size >= SENT:
            end = "whole"
        elif not end and not self.e.connection.still_alive():
            end, cause = "cut", f"{self.cause} {self.e.connection.why_dead()}".strip()
        elif not end:
            end = "stalled" if self.stalled else "unknown"
        return Flow(self.way, self.size, time.monotonic() - self.started, end, cause)


def _broken(e: Examination, flows: list[Flow]) -> None:
    """What was being sent did not get through: large packets that vanish, or a connection that is ended?"""
    last = flows[-1]
    if last.end == "stalled" and last.size < PIECES[0] and small_segments_carry(e):
        rules.large_packets_vanish(e, "; ".join(map(str, flows)), flows=[vars(flow) for flow in flows])
    else:
        rules.broken(e, flows)
    e.connection.client.close()
    e.connection.reopen("what was sent did not get through")
    e.since = time.monotonic()


def small_segments_carry(e: Examination) -> bool:
    """Whether a login over small packets carries what one more over packets of the usual size does not."""
    return e.connection.gateway is None and not _carried(e, small=False) and _carried(e, small=True)


def _carried(e: Examination, *, small: bool) -> bool:
    other = e.fresh(3600.0)
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException, SwitchoverError, Unanswered):
        try:
            if small:
                other.connect_kwargs["sock"] = second_looks.small_socket(
                    other.host, int(other.port), e.left(STALLED)
                )
            other.connect_timeout = e.left(STALLED)
            other.open()
            command = f"{_PREFIX}head -c {FIRST} /dev/zero; : {'x' * FIRST}'"
            return len(e.execute(command, STALLED, connection=other).out) == FIRST
        finally:
            other.close()
    return False
