"""The network below: what it loses."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import paramiko

from ...errors import SwitchoverError
from ...remote.raw_ssh import greeting
from ..examination import Evidence, Examination, Unanswered
from ..finding import Fix

SENT = 1 << 20  # bytes each way: the least that a deployment may have
SENT_WITHIN = 5.0  # seconds for each way; a slow network has sent less by then
BLOCK = 32_768  # bytes
PIECES = (8192, 65_536, SENT - 8192 - 65_536)  # bytes
PIECE_WITHIN = 8.0  # seconds
SLOW_PIECE = 1.5  # seconds; the next piece, ten times as large, would take too long
STALLED = 4.0  # seconds without a byte, where bytes are due
FIRST = 6_000  # bytes: some large packets each way
SMALL_SEGMENT = 500  # bytes; passes wherever IPv4 does (RFC 791: 576 with headers)
SLOW_RATE = 100_000  # bytes a second
SLOW_TRIP = 0.5  # seconds
LOSSY = 0.02  # share of segments sent again
FEW = 5  # segments sent again that may be chance

# struct tcp_info of linux/tcp.h: tcpi_total_retrans and tcpi_segs_out.
TCP_INFO_SIZE, RETRANSMITTED_AT, SEGMENTS_AT = 192, 100, 136


def loss(e: Examination) -> str:
    """Ask this machine's kernel what of all that was sent it had to send twice."""
    sock = e.connection.transport.sock
    if not isinstance(sock, socket.socket) or not hasattr(socket, "TCP_INFO"):
        return "this machine does not tell what it had to send again"
    after = _counters(sock)
    if after is None:
        return "this machine's kernel does not count what it had to send again"
    again, out = after
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


@dataclass(frozen=True)
class Flow:
    """What came of sending one way: bytes, seconds, and how it ended: whole, time, stalled or cut."""

    way: str
    size: int
    seconds: float
    end: str
    cause: str = ""

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / max(self.seconds, 1e-3)

    def __str__(self) -> str:
        how = f"{self.end}: {self.cause}" if self.cause else self.end
        return f"{self.way} {self.size:,} bytes in {self.seconds:.1f} s ({how})"


_PREFIX = "exec /bin/sh -c 'PATH=$PATH:/usr/bin:/bin; "


def bulk(e: Examination) -> str:
    """A megabyte each way, as a deployment has it: does it arrive, and how fast?"""
    flows: list[Flow] = []
    for way in (_up, _down):
        flows.append(way(e))
        if flows[-1].end in ("stalled", "cut"):
            _broken(e, flows)
            return ""
    _fast_enough(e, flows)
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
                return meter.flow("stalled")
            meter.size += piece
            if time.monotonic() - began > SLOW_PIECE:
                return meter.flow("time")
    return meter.flow("whole" if meter.size >= SENT else "stalled")


def _down(e: Examination) -> Flow:
    meter = _Meter(e, "down")
    until = time.monotonic() + e.left(SENT_WITHIN)
    with meter.watching(f"{_PREFIX}exec head -c {SENT} /dev/zero'"):
        while meter.size < SENT:
            block = meter.receive()
            if not block:
                return meter.flow("stalled")
            meter.size += len(block)
            if time.monotonic() > until:
                return meter.flow("time")
    return meter.flow("whole" if meter.size >= SENT else "stalled")


class _Meter:
    """Bytes through a channel of their own, with an eye on the clock. size: those that have arrived."""

    def __init__(self, e: Examination, way: str) -> None:
        self.e = e
        self.way = way
        self.size = 0
        self.started = time.monotonic()
        self.cause = ""
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
            pass
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

    def flow(self, end: str) -> Flow:
        alive = self.e.connection.still_alive() if end == "stalled" else True
        cause = self.cause if alive else f"{self.cause} {self.e.connection.why_dead()}".strip()
        return Flow(self.way, self.size, time.monotonic() - self.started, end if alive else "cut", cause)


def _broken(e: Examination, flows: list[Flow]) -> None:
    """What was being sent did not get through: large packets that vanish, or a connection that is ended?"""
    seen = "; ".join(map(str, flows))
    last = flows[-1]
    evidence: Evidence = {
        flow.way: {"bytes": flow.size, "seconds": round(flow.seconds, 2), "end": flow.end} for flow in flows
    }
    if last.end == "stalled" and last.size < PIECES[0] and small_segments_carry(e):
        large_packets_vanish(e, seen, **evidence)
    else:
        e.fail(
            "link-cut",
            f"The connection is {'cut' if last.end == 'cut' else 'silent'} after some {last.size:,} bytes.",
            seen,
            "Small commands work, so that a login by hand looks well; an upload does not get through. "
            "Something "
            "on the way ends or swallows connections that carry more: a firewall that inspects, a proxy "
            "or VPN "
            "with a limit. Try from another network, and have this one's operator look.",
            **evidence,
        )  # fmt: skip
    e.connection.client.close()
    e.connection.reopen("what was sent did not get through")
    e.since = time.monotonic()


def large_packets_vanish(e: Examination, seen: str, **evidence: object) -> None:
    """The path has a smaller MTU than it says, and nobody says so (RFC 2923, 2.1)."""
    e.fail(
        "mtu", "Large packets do not arrive; small ones do.",
        f"{seen}; with segments of {SMALL_SEGMENT} bytes the same gets through",
        "A tunnel or VPN on the way takes smaller packets than its ends believe, and the messages that "
        "would say "
        "so (ICMP) are filtered. Make this machine's packets smaller, or have MSS clamping set on the "
        "router.",
        Fix("here", "ip link set dev \"$(ip route get HOST | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')\""
            " mtu 1200"),
        small_segment=SMALL_SEGMENT, **evidence,
    )  # fmt: skip


def small_segments_carry(e: Examination) -> bool:
    """Whether a login over small packets carries what stalled over packets of the usual size."""
    if e.connection.gateway is not None:
        return False
    other = e.fresh(3600.0)
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException, SwitchoverError, Unanswered):
        try:
            other.connect_kwargs["sock"] = _small_socket(other.host, int(other.port), e.left(STALLED))
            other.open()
            big = e.execute(f"{_PREFIX}head -c {FIRST} /dev/zero; : {'x' * FIRST}'", connection=other)
            return len(big.out) == FIRST
        finally:
            other.close()
    return False


def small_segments_greet(host: str, port: int) -> bool:
    """Whether the server's algorithms, its first large packet, arrive in small packets."""
    with contextlib.suppress(OSError), _small_socket(host, port, STALLED) as sock:
        return bool(greeting(sock, STALLED, offers=True).offers)
    return False


def _small_socket(host: str, port: int, timeout: float) -> socket.socket:
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


def _fast_enough(e: Examination, flows: list[Flow]) -> None:
    rates = {flow.way: round(flow.rate) for flow in flows}
    for flow in flows:
        e.facts[f"rate {flow.way}"] = f"{flow.rate / 1e6:.2f} MB/s"
    slow = [flow for flow in flows if flow.rate < SLOW_RATE and flow.end == "time"]
    evidence: Evidence = {"round_trip": round(e.round_trip, 3), "bytes_a_second": rates}
    if not slow and e.round_trip < SLOW_TRIP:
        e.ok("slow-link", **evidence)
        return
    figures = ", ".join(f"{flow.rate / 1000:.0f} kB/s {flow.way}" for flow in flows)
    e.warn(
        "slow-link", f"The network is slow: {figures}, {e.round_trip:.2f} s a round trip.",
        "; ".join(map(str, flows)),
        "Deployments work, and take long: a round trip for each step, and each byte of what has "
        "changed. Deploy from a "
        "machine nearer to the host (CI), and raise ssh.command_timeout for large uploads.",
        Fix("config.yaml", "ssh: {connect_timeout: 30, command_timeout: 7200}"), **evidence,
    )  # fmt: skip
