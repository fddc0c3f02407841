"""A network of our own: client - router - server, each a network namespace, with rules on the router."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping

from tests.support.sshd import Sshd, end_processes, find_sshd

FORGETS_AFTER = 3  # seconds
# Forgets who is quiet; what comes then is swallowed.
FORGETFUL = """
table ip nat_that_forgets {
  counter swallowed { }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    tcp flags & (fin | syn | rst | ack) == syn ct state new accept
    counter name swallowed drop
  }
}
"""
RESETTING = FORGETFUL.replace("counter name swallowed drop", "counter name swallowed reject with tcp reset")
FILTERING = """
table ip firewall {
  chain forward { type filter hook forward priority 0; policy accept; tcp dport 1-65535 drop; }
}
"""
LOSSY = """
table ip loss {
  chain forward { type filter hook forward priority 0; policy accept; numgen random mod 100 < 15 drop; }
}
"""
OPEN = "table ip open { }"


def run(*command: str) -> str:
    """What it prints; AssertionError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


class Routed(Sshd):
    """client - router - server, each a network namespace; sshd runs in the last.

    rules: nft rules of the router. host: another address, where nobody is, may be looked for.
    """

    host = "10.99.2.2"

    def __init__(
        self, rules: str = FORGETFUL, programs: Mapping[str, str] | None = None, user: str | None = None
    ) -> None:
        self.rules = rules
        self.names = {who: f"so-{os.getpid()}-{who}" for who in ("client", "router", "server")}
        super().__init__(extra=f"ListenAddress {self.host}", programs=programs, user=user)
        wrapper = self.folder / "sshd"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {self.names["server"]} {find_sshd()} "$@"\n')
        wrapper.chmod(0o755)
        self._binary = wrapper

    def inside(self, who: str, *command: str) -> str:
        """Run a program in one of the namespaces."""
        return run("ip", "netns", "exec", self.names[who], *command)

    @property
    def client(self) -> str:
        """The namespace to look from."""
        return self.names["client"]

    @property
    def swallowed(self) -> int:
        """Packets that the router has dropped without a word."""
        found = re.search(r"packets (\d+)", self.inside("router", "nft", "list", "counter", "ip",
                                                        "nat_that_forgets", "swallowed"))  # fmt: skip
        assert found
        return int(found[1])

    def _answers(self, logged: int) -> bool:
        return f"Server listening on {self.host} port {self.port}" in self.log()[logged:]

    def reconfigure(self, extra: str, sftp: str | None) -> None:
        """As any server's; it goes on listening in its own network."""
        super().reconfigure(f"ListenAddress {self.host}\n{extra}", sftp)

    def filter_anew(self) -> None:
        """Give the router its rules, and nothing that they have counted."""
        rules = self.folder / "rules"
        rules.write_text(f"flush ruleset\n{self.rules}")
        self.inside("router", "nft", "-f", str(rules))

    def build(self) -> None:
        """Lay the cables, and give the router its rules."""
        client, router, server = (self.names[who] for who in ("client", "router", "server"))
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for end, cable, net in ((client, "c", 1), (server, "s", 2)):
            run(
                "ip",
                "-n",
                router,
                "link",
                "add",
                f"{cable}1",
                "type",
                "veth",
                "peer",
                f"{cable}2",
                "netns",
                end,
            )
            run("ip", "-n", router, "addr", "add", f"10.99.{net}.1/24", "dev", f"{cable}1")
            run("ip", "-n", end, "addr", "add", f"10.99.{net}.2/24", "dev", f"{cable}2")
            run("ip", "-n", router, "link", "set", f"{cable}1", "up")
            run("ip", "-n", end, "link", "set", f"{cable}2", "up")
            run("ip", "-n", end, "route", "add", "default", "via", f"10.99.{net}.1")
        self.filter_anew()
        for key, value in {
            "net.ipv4.ip_forward": 1,
            "net.netfilter.nf_conntrack_tcp_loose": 0,
            "net.netfilter.nf_conntrack_tcp_timeout_established": FORGETS_AFTER,
            "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged": FORGETS_AFTER,
        }.items():
            self.inside("router", "sysctl", "-q", "-w", f"{key}={value}")

    def tear_down(self) -> None:
        """End what runs there, and remove the namespaces."""
        for name in self.names.values():
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=30)
            end_processes([int(pid) for pid in pids.stdout.split()])
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)


@contextlib.contextmanager
def routed(rules: str) -> Iterator[Routed]:
    """A server behind a router with these rules."""
    made = Routed(rules=rules)
    try:
        made.build()
        with made:
            yield made
    finally:
        made.tear_down()
