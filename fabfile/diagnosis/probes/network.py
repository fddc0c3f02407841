"""The network below: what it loses."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from ..examination import Evidence, Examination

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
