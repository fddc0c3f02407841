"""Limits of the server and of what lies between: sessions, idleness, cuts, loss, slowness."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab.faults.declared import IDLE, WATCH, fault, faults, sshd
from tests.support import network, servers
from tests.support.examined import ExaminedHost
from tests.support.proxy import Proxy
from tests.support.relay import Cut, relay
from tests.support.sshd import Sshd


@fault("max-sessions")
def one_session_at_a_time() -> Iterator[ExaminedHost]:
    yield from sshd("MaxSessions 1")


@fault("peer-lossy", mends=False, slow=True, programs=("ip", "nft"))
def a_network_that_loses() -> Iterator[ExaminedHost]:
    with network.routed(network.LOSSY) as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), namespace=server.client)


@fault("idle-channel")
def idle_channels_are_closed_say_the_settings() -> Iterator[ExaminedHost]:
    yield from sshd(f"ChannelTimeout session:*={IDLE}s")


@fault("idle-channel", deep=WATCH, slow=True)
def idle_channels_are_closed() -> Iterator[ExaminedHost]:
    yield from sshd(f"ChannelTimeout session:*={IDLE}s")


@fault("idle-server", deep=WATCH, slow=True)
def connections_without_a_session_are_dropped() -> Iterator[ExaminedHost]:
    yield from sshd(f"UnusedConnectionTimeout {IDLE}s")


@fault("idle-balancer", deep=WATCH, programs=("haproxy",))
def a_load_balancer_that_hangs_up() -> Iterator[ExaminedHost]:
    with Sshd() as server, servers.haproxy([server.port], idle=IDLE) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@fault("idle-nat", deep=WATCH, programs=("ip", "nft"), slow=True)
def a_nat_that_forgets() -> Iterator[ExaminedHost]:
    with network.routed(network.FORGETFUL) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("idle-nat", deep=WATCH, programs=("ip", "nft"))
def a_nat_that_resets() -> Iterator[ExaminedHost]:
    with network.routed(network.RESETTING) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("link-cut", mends=False)
def connections_that_are_cut_after_60_kb() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(60_000)) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@fault("link-cut", mends=False, slow=True)
def connections_that_are_cut_after_20_kb() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(20_000)) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@fault("link-cut", mends=False, slow=True)
def connections_that_fall_silent_after_300_kb() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(300_000, how="silence")) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


LARGE_VANISH = """
table ip tunnel {
  chain forward { type filter hook forward priority 0; policy accept; meta length > 1400 drop; }
}
"""


@fault("mtu", mends=False, programs=("ip", "nft"), slow=True)
def a_tunnel_that_swallows_large_packets() -> Iterator[ExaminedHost]:
    with network.routed(LARGE_VANISH) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("mtu", mends=False, programs=("ip", "nft"))
def a_tunnel_that_swallows_the_key_exchange() -> Iterator[ExaminedHost]:
    with network.routed(LARGE_VANISH.replace("1400", "1000")) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("slow-link", mends=False, slow=True)
def a_second_of_round_trip() -> Iterator[ExaminedHost]:
    with Sshd() as server, Proxy(server.port, delay=0.5) as proxy:
        yield ExaminedHost(server, port=proxy.port, deploy_to=server.new_dir(), ssh={"connect_timeout": 20})


@fault("slow-link", mends=False, slow=True)
def ten_kilobytes_a_second() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, rate=10_000) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir(), ssh={"connect_timeout": 20})


def _cut(cut: Cut) -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, cut) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


faults(
    "link-cut",
    {
        "connections that end after 100 kB up": lambda: _cut(Cut(100_000, way="up", how="fin")),
        "connections that are reset after 30 kB down": lambda: _cut(Cut(30_000, way="down")),
        "connections that are reset after 2 kB down": lambda: _cut(Cut(2176, way="down")),
        "connections that end in the key exchange": lambda: _cut(Cut(900, way="up", how="fin")),
    },
    mends=False,
)
faults(
    "link-cut",
    {
        "connections that end after a second": lambda: _cut(Cut(seconds=1.0, how="fin")),
        "connections that fall silent after 9 kB": lambda: _cut(Cut(9_000, how="silence")),
        "connections that fall silent after two seconds": lambda: _cut(Cut(seconds=2.0, how="silence")),
    },
    mends=False,
    slow=True,
)
faults("max-sessions", {"three sessions at a time": lambda: sshd("MaxSessions 3")})
faults(
    "idle-server",
    {
        "connections without a session are dropped say the settings": lambda: sshd(
            "UnusedConnectionTimeout 9s"
        )
    },
)


@fault("link-cut", mends=False, programs=("ip", "nft"), slow=True)
def a_router_that_has_had_enough() -> Iterator[ExaminedHost]:
    quota = (
        "type filter hook forward priority 0; policy accept; ip saddr 10.99.1.2 quota over 60 kbytes drop;"
    )
    with network.routed(f"table ip enough {{\n  chain forward {{ {quota}\n }}\n}}\n") as server:
        yield ExaminedHost(server, namespace=server.client, deploy_to=server.new_dir())
