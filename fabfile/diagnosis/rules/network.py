"""What the network does to what is sent: from the flows of bytes that were seen to findings."""

from __future__ import annotations

from dataclasses import dataclass

from ..case import Case
from ..finding import Fix

SENT = 1 << 20  # bytes each way: the least that a deployment may have
SLOW_RATE = 100_000  # bytes a second
SLOW_TRIP = 0.5  # seconds
LOSSY = 0.02  # share of segments sent again
FEW = 5  # segments sent again that may be chance


@dataclass(frozen=True)
class Flow:
    """What came of sending one way: bytes, seconds, and how it ended: whole, time, stalled, cut or unknown.

    unknown: the host did not do what the flow needs, which says nothing about the network.
    """

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


def broken(case: Case, flows: list[Flow]) -> None:
    """What was being sent did not get through."""
    last = flows[-1]
    case.fail(
        "link-cut",
        f"Uploads break off: the connection is {'cut' if last.end == 'cut' else 'silent'} after some "
        f"{last.size:,} bytes.",
        "; ".join(map(str, flows)),
        "Small commands work, so that a login by hand looks well; an upload does not get through. "
        "Something on the way ends or swallows connections that carry more: a firewall that inspects, a "
        "proxy or VPN with a limit. Try from another network, and have this one's operator look.",
        flows=[vars(flow) for flow in flows],
    )  # fmt: skip


def large_packets_vanish(case: Case, seen: str, **evidence: object) -> None:
    """The path has a smaller MTU than it says, and nobody says so (RFC 2923, 2.1)."""
    case.fail(
        "mtu", "Uploads stall: large packets do not arrive, small ones do.",
        f"{seen}; with small segments the same gets through",
        "A tunnel or VPN on the way takes smaller packets than its ends believe, and the messages that "
        "would say so (ICMP) are filtered. Make this machine's packets smaller, or have MSS clamping set on "
        "the router.",
        Fix("here", "ip link set dev \"$(ip route get HOST | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')\""
            " mtu 1200"),
        **evidence,
    )  # fmt: skip


def fast_enough(case: Case, flows: list[Flow]) -> None:
    """All got through: how fast?"""
    rates = {flow.way: round(flow.rate) for flow in flows}
    for flow in flows:
        case.facts[f"rate {flow.way}"] = f"{flow.rate / 1e6:.2f} MB/s"
    slow = [flow for flow in flows if flow.rate < SLOW_RATE and flow.end == "time"]
    if not slow and case.round_trip < SLOW_TRIP:
        case.ok("slow-link", round_trip=round(case.round_trip, 3), bytes_a_second=rates)
        return
    figures = ", ".join(f"{flow.rate / 1000:.0f} kB/s {flow.way}" for flow in flows)
    case.warn(
        "slow-link",
        f"Deployments take long: the network carries {figures}, {case.round_trip:.2f} s a round trip.",
        "; ".join(map(str, flows)),
        "A round trip for each step, and each byte of what has changed. Deploy from a machine nearer to the "
        "host (CI), and raise ssh.command_timeout for large uploads.",
        Fix("config.yaml", "ssh: {connect_timeout: 30, command_timeout: 7200}"),
        round_trip=round(case.round_trip, 3), bytes_a_second=rates,
    )  # fmt: skip


def losses(case: Case, again: int, out: int) -> None:
    """again: TCP segments that this machine had to send twice; out: all that it has sent."""
    share = again / max(out, 1)
    if share < LOSSY or again < FEW:
        case.ok("peer-lossy", segments=out, sent_again=again, share=round(share, 4))
        return
    case.warn(
        "peer-lossy",
        f"Uploads are slow, and long connections die: the network loses {share * 100:.0f} % of what is sent.",
        f"{again} of {out} TCP segments had to be sent again",
        "Try a cable, another network, or a host nearer to the server (CI). Deployments reconnect and go on "
        "meanwhile.",
        segments=out, sent_again=again, share=round(share, 4),
    )  # fmt: skip
