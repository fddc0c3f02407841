"""The network below: whether a megabyte gets through each way, how fast, and what has to be sent twice."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import paramiko

from ...errors import SwitchoverError
from ..examination import Examination, Unanswered
from ..rules import network as rules
from ..rules.network import SENT, Flow
from . import second_looks

SENT_WITHIN = 5.0  # seconds for each way; a slow network has sent less by then
BLOCK = 32_768  # bytes
PIECES = (8192, 65_536, SENT - 8192 - 65_536)  # bytes
PIECE_WITHIN = 8.0  # seconds
SLOW_PIECE = 1.5  # seconds; the next piece, ten times as large, would take too long
STALLED = 4.0  # seconds without a byte, where bytes are due
FIRST = 6_000  # bytes: some large packets each way

# struct tcp_info of linux/tcp.h: tcpi_total_retrans and tcpi_segs_out.
TCP_INFO_SIZE, RETRANSMITTED_AT, SEGMENTS_AT = 192, 100, 136


def loss(e: Examination) -> str:
    """Ask this machine's kernel what of all that was sent it had to send twice."""
    sock = e.connection.transport.sock
    if not isinstance(sock, socket.socket) or not hasattr(socket, "TCP_INFO"):
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
        e.note(ability, answer, str(flow), flow.seconds)  # type: ignore[arg-type]
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
    with meter.watching(
        f"{_PREFIX}for n in {' '.join(map(str, PIECES))}; do head -c $n >/dev/null; echo $n; done'"
    ):
        for piece in PIECES:
            began = time.monotonic()
            meter.send(piece)
            if not meter.confirmed(f"{piece}\n".encode()):
                return meter.flow()
            meter.size += piece
            if time.monotonic() - began > SLOW_PIECE:
                return meter.flow("time")
    return meter.flow()


def _down(e: Examination) -> Flow:
    meter = _Meter(e, "down")
    until = time.monotonic() + e.left(SENT_WITHIN)
    with meter.watching(f"{_PREFIX}exec head -c {SENT} /dev/zero'"):
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
        self.stalled = False
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

    def send(self, size: int) -> None:
        for at in range(0, size, BLOCK):
            self.channel.sendall(bytes(min(BLOCK, size - at)))

    def receive(self) -> bytes:
        return bytes(self.channel.recv(65536))

    def confirmed(self, wanted: bytes) -> bool:
        """Whether the host says so in time; longer than one wait, since much may be on its way."""
        self.channel.settimeout(PIECE_WITHIN)
        said = b""
        while not said.endswith(wanted):
            block = self.receive()
            if not block:
                return False
            said = (said + block)[-64:]
        return True

    def flow(self, end: str = "") -> Flow:
        """What came of it. Where the host's program has ended while the connection lives, it is unknown."""
        cause = self.cause
        if not end and self.size >= SENT:
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
    """Whether a login over small packets carries what stalled over packets of the usual size."""
    if e.connection.gateway is not None:
        return False
    other = e.fresh(3600.0)
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException, SwitchoverError, Unanswered):
        try:
            other.connect_kwargs["sock"] = second_looks.small_socket(
                other.host, int(other.port), e.left(STALLED)
            )
            other.open()
            big = e.execute(f"{_PREFIX}head -c {FIRST} /dev/zero; : {'x' * FIRST}'", connection=other)
            return len(big.out) == FIRST
        finally:
            other.close()
    return False
