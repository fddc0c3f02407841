"""The way to the host: cut, slow, far, rationed, filtered; and what else may answer at its port."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Literal

from tests.lab.unseen.kinds import Claim, claim, kind
from tests.lab.unseen.recipe import Recipe
from tests.support import servers
from tests.support.proxy import Proxy
from tests.support.relay import Cut, relay
from tests.support.sockets import listening

NO_GREETING = 40  # bytes; a server's greeting is not whole by then
MAY_PASS = 150_000  # bytes; a small deployment gets through with some reconnections
WAYS: tuple[Literal["up", "down", "both"], ...] = ("up", "down", "both")
HOWS: tuple[Literal["reset", "fin", "silence"], ...] = ("reset", "fin", "silence")


@kind("way", weight=6)
def cut_at_a_byte(draw: Random, recipe: Recipe) -> Claim:
    after, way, how = int(10 ** draw.uniform(1.0, 6.1)), draw.choice(WAYS), draw.choice(HOWS)
    recipe.ways.append(lambda port: relay(port, Cut(after, way=way, how=how)))
    ids = ("link-cut", "banner-refused", "banner-silent") if after < NO_GREETING else ("link-cut",)
    return claim(f"{how} after {after} bytes {way}", *ids, quiet=after > MAY_PASS)


@kind("way", weight=4)
def cut_at_a_time(draw: Random, recipe: Recipe) -> Claim:
    seconds, how = round(10 ** draw.uniform(-1.3, 1.3), 2), draw.choice(HOWS)
    recipe.ways.append(lambda port: relay(port, Cut(seconds=seconds, how=how)))
    ids = ("link-cut", "banner-refused", "banner-silent") if seconds < 0.2 else ("link-cut",)
    return claim(f"{how} after {seconds} s", *ids, quiet=seconds > 5)


@kind("way", weight=3)
def a_slow_network(draw: Random, recipe: Recipe) -> Claim:
    rate = int(10 ** draw.uniform(3.5, 5.3))
    recipe.ways.append(lambda port: relay(port, rate=rate))
    return claim(f"{rate} bytes a second", "slow-link", quiet=rate > 80_000)


@contextlib.contextmanager
def _delayed(port: int, delay: float) -> Iterator[int]:
    with Proxy(port, delay=delay) as proxy:
        yield proxy.port


@kind("way", weight=3)
def a_far_network(draw: Random, recipe: Recipe) -> Claim:
    delay = round(draw.uniform(0.05, 0.9), 2)
    recipe.ways.append(lambda port: _delayed(port, delay))
    slow = ("slow-login",) if delay > 0.4 else ()
    return claim(f"{2 * delay:.2f} s of round trip", "slow-link", *slow, quiet=delay < 0.27)


@kind("way", weight=3)
def connections_are_rationed(draw: Random, recipe: Recipe) -> Claim:
    every = draw.randint(15, 90)
    how = draw.choice(("reset", "close", "silence", "Exceeded MaxStartups\r\n", "Too many connections\r\n"))
    last = [0.0]
    recipe.anew.append(lambda _: last.__setitem__(0, 0.0))
    recipe.ways.append(lambda port: _rationed(port, every, how, last))
    return claim(f"one connection in {every} s, else {how.strip()!r}", "rate-limited", "banner-refused")


@contextlib.contextmanager
def _rationed(target: int, every: float, how: str, last: list[float]) -> Iterator[int]:
    def serve(client: socket.socket) -> None:
        if time.monotonic() - last[0] < every:
            if how.endswith("\n"):
                client.sendall(how.encode())
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how != "silence":
                client.close()
            return
        last[0] = time.monotonic()
        server = socket.create_connection(("127.0.0.1", target), 10)
        server.settimeout(None)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=_pass, args=(source, sink), daemon=True).start()

    with listening(serve) as port:
        yield port


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


# -- what answers at the port ----------------------------------------------------------------------------

GREETINGS = {
    "SMTP": b"220 mail.example.com ESMTP Postfix\r\n", "FTP": b"220 (vsFTPd 3.0.3)\r\n",
    "POP3": b"+OK ready\r\n", "IMAP": b"* OK [CAPABILITY IMAP4rev1] ready\r\n", "VNC": b"RFB 003.008\n",
    "MySQL": b"J\0\0\0\n8.0.36\0\x08\0\0\0abcdefgh\0\xff\xf7\xff\x02\0",
    "Telnet": b"\xff\xfd\x18\xff\xfd\x20",
    "text": b"Welcome. Please log in.\r\n", "binary": bytes(range(1, 200)),
    "HTTP at once": b"HTTP/1.1 408 x\r\n\r\n",
}  # fmt: skip
ANSWERS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x0a", "Redis": b"-ERR unknown command\r\n", "echo": b"",
    "HTTP 505": b"HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n",
}  # fmt: skip
TURNED_AWAY = (
    b"Exceeded MaxStartups\r\n", b"Not allowed at this time\r\n",
    b"Too many connections from your address\r\n",
    b"Access denied by security policy\r\n", b"Connection refused: try again later\r\n",
)  # fmt: skip


@kind("way", weight=3)
def another_service(draw: Random, recipe: Recipe) -> Claim:
    name = draw.choice(list(GREETINGS))
    hang_up = draw.random() < 0.4
    recipe.ways.append(lambda _: servers.speaks(GREETINGS[name], hang_up=hang_up))
    return claim(f"{name}{', which hangs up' if hang_up else ''}", "not-ssh")


@kind("way", weight=3)
def a_service_that_waits_to_be_asked(draw: Random, recipe: Recipe) -> Claim:
    name = draw.choice(list(ANSWERS))

    def serve(client: socket.socket) -> None:
        threading.Thread(target=_answer, args=(client, ANSWERS[name]), daemon=True).start()

    recipe.ways.append(lambda _: listening(serve))
    return claim(name, "not-ssh")


def _answer(client: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        asked = client.recv(4096)
        client.sendall(answer or asked)
        if answer:
            client.close()


@kind("way")
def turned_away(draw: Random, recipe: Recipe) -> Claim:
    word = draw.choice(TURNED_AWAY)
    hang_up = draw.random() < 0.8
    recipe.ways.append(lambda _: servers.speaks(word, hang_up=hang_up))
    return claim(repr(word.decode()), "banner-refused")


@kind("way")
def nobody_speaks(draw: Random, recipe: Recipe) -> Claim:
    hang_up = draw.random() < 0.5
    recipe.ways.append(lambda _: servers.speaks(b"", hang_up=hang_up))
    return claim("hangs up" if hang_up else "silent", "banner-refused" if hang_up else "banner-silent")


@kind("way")
def a_late_greeting(draw: Random, recipe: Recipe) -> Claim:
    seconds = draw.randint(2, 14)
    recipe.ways.append(lambda port: _late(port, seconds))
    return claim(f"{seconds} s late", "banner-silent", "slow-login", quiet=seconds < 5)


@contextlib.contextmanager
def _late(target: int, seconds: float) -> Iterator[int]:
    def serve(client: socket.socket) -> None:
        threading.Timer(seconds, join, (client,)).start()

    def join(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", target), 10)
            server.settimeout(None)
            threading.Thread(target=_pass, args=(client, server), daemon=True).start()
            _pass(server, client)

    with listening(serve) as port:
        yield port


@kind("way")
def a_name_that_nobody_knows(draw: Random, recipe: Recipe) -> Claim:
    name = draw.choice(("web7.example.invalid", "no-such-host.invalid", f"{'x' * 63}.invalid", "a_b.invalid",
                        "localhost.invalid"))  # fmt: skip

    def wrong(host: object) -> None:
        host.place.host = name  # type: ignore[attr-defined]

    recipe.client.append(wrong)
    return claim(name, "dns")


@kind("way")
def a_port_where_nobody_listens(draw: Random, recipe: Recipe) -> Claim:
    address = f"127.0.0.{draw.randint(2, 250)}"

    def wrong(host: object) -> None:
        host.place.host, host.place.port = address, servers.free_port()  # type: ignore[attr-defined]

    recipe.client.append(wrong)
    return claim(address, "tcp-refused")


# -- through a router ------------------------------------------------------------------------------------

NETWORK = ("ip", "nft")
CHAIN = """
table ip drawn {{
  chain forward {{
    type filter hook forward priority 0; policy accept
    {}
  }}
}}
"""
REFUSALS = {
    "drop": ("tcp-filtered",),
    "reject with icmp admin-prohibited": ("tcp-filtered",),
    "reject with icmp host-prohibited": ("tcp-filtered",),
    "reject with icmp net-unreachable": ("tcp-filtered", "host-unreachable"),
    "reject with icmp host-unreachable": ("tcp-filtered", "host-unreachable"),
    "reject with icmp port-unreachable": ("tcp-refused", "tcp-filtered"),
    "reject with tcp reset": ("tcp-refused",),
}
routed_kind = functools.partial(kind, "way", programs=NETWORK)


@routed_kind(weight=2)
def a_firewall(draw: Random, recipe: Recipe) -> Claim:
    how = draw.choice(list(REFUSALS))
    recipe.rules = CHAIN.format(f"tcp dport 1-65535 {how}")
    return claim(how, *REFUSALS[how])


@routed_kind(weight=2)
def a_small_mtu(draw: Random, recipe: Recipe) -> Claim:
    size = draw.randint(576, 1490)
    side = draw.choice(("", "ip saddr 10.99.1.2 ", "ip daddr 10.99.1.2 "))
    recipe.rules = CHAIN.format(f"{side}meta length > {size} drop")
    return claim(f"{side or 'both ways '}over {size} bytes", "mtu")


@routed_kind(weight=2)
def a_network_that_loses(draw: Random, recipe: Recipe) -> Claim:
    share = draw.randint(3, 35)
    recipe.rules = CHAIN.format(f"numgen random mod 100 < {share} drop")
    worse = ("link-cut", "slow-link") if share > 25 else ()
    return claim(f"{share} %", "peer-lossy", *worse, quiet=share < 6)


@routed_kind()
def new_connections_are_rationed(draw: Random, recipe: Recipe) -> Claim:
    rate, burst = draw.randint(1, 3), draw.randint(1, 2)
    how = draw.choice(("drop", "reject with tcp reset", "reject with icmp admin-prohibited"))
    flags = "tcp flags & (fin | syn | rst | ack) == syn"
    recipe.rules = CHAIN.format(f"{flags} limit rate over {rate}/minute burst {burst} packets {how}")
    recipe.anew.append(lambda host: host.server.filter_anew())  # type: ignore[attr-defined]
    return claim(f"{rate}/minute, burst {burst}, else {how}", "rate-limited", quiet=burst > 1)


@routed_kind()
def a_way_with_a_quota(draw: Random, recipe: Recipe) -> Claim:
    size, how = draw.randint(8, 300), draw.choice(("drop", "reject with tcp reset"))
    recipe.rules = CHAIN.format(f"ip saddr 10.99.1.2 quota over {size} kbytes {how}")
    ids = ("link-cut", "rate-limited")
    return claim(f"{size} kB in all, then {how}", *ids)
