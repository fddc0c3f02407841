"""The seed's case, and worse: a connection that is dropped because it is idle while the host copies."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.helpers import PATIENT, Tools, run
from tests.integration import cli
from tests.integration.cli import Project
from tests.integration.helpers import unavailable
from tests.lab.sshd import Sshd, end_processes, find_sshd

pytestmark = pytest.mark.timeout(90)

# A copy that takes its time, on a host where nothing else moves meanwhile: what a job's follower sends now
# and then would hold a NAT too.
SLOW_CP = 'case "$*" in */cache\\ *) sleep {seconds} ;; esac'
SLOW_FOLLOWER = "case $1 in 0.2) shift; set -- 1 ;; esac"


def slow_tools(seconds: float, *, quiet: bool = False) -> Tools:
    folder = Path("/tmp") / f"switchover-slow-{os.getpid()}-{seconds:g}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    made = Tools(folder)
    made.write("cp", SLOW_CP.format(seconds=seconds))
    if quiet:
        made.write("sleep", SLOW_FOLLOWER)
    return made


# -- a server that drops who is idle ---------------------------------------------------------------------


@pytest.fixture
def impatient(clean_environment: None, sshd_installed: None) -> Iterator[Sshd]:
    """A server that drops idle sessions, connections without one, and clients that don't answer."""
    tools = slow_tools(10)
    extra = (
        "ChannelTimeout session:*=3s\nUnusedConnectionTimeout 3s\n"
        "ClientAliveInterval 1\nClientAliveCountMax 2\n"
        f"SetEnv PATH={tools.folder}:/usr/bin:/bin"
    )
    try:
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(Sshd(extra=extra))
            except RuntimeError as problem:
                if "ChannelTimeout" not in str(problem) and "UnusedConnectionTimeout" not in str(problem):
                    raise
                unavailable("this sshd knows no ChannelTimeout (OpenSSH 9.2 and later do)")
            yield server
    finally:
        shutil.rmtree(tools.folder, ignore_errors=True)


def test_a_server_that_drops_idle_clients_and_a_slow_copy(tmp_path: Path, impatient: Sshd) -> None:
    """sshd drops whoever is idle for 3 s, and copying the cache takes 10 s: it is done at the first try, on
    the first connection.
    """
    project = Project(tmp_path / "project", impatient, impatient.new_dir())
    project.configure(ssh=PATIENT)
    done = project.fab("deploy", "--json")
    assert done.host["phases"]["copy"] > 10, "the copy was not slow"
    assert done.host["reconnects"] == 0, str(done)
    assert (project.current / "index.html").read_text() == "one\n" and project.is_tidy()


# -- a NAT that forgets ----------------------------------------------------------------------------------

FORGETS_AFTER = 3  # seconds
RULES = """
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


class Nat(Sshd):
    """client - router - server, each a network namespace; sshd runs in the last, the router forgets."""

    host = "10.99.2.2"

    def __init__(self, extra: str) -> None:
        self.names = {who: f"so-{os.getpid()}-{who}" for who in ("client", "router", "server")}
        super().__init__(extra=f"ListenAddress {self.host}\n{extra}")
        wrapper = self.folder / "sshd"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {self.names["server"]} {find_sshd()} "$@"\n')
        wrapper.chmod(0o755)
        self._binary = wrapper

    def inside(self, who: str, *command: str) -> str:
        """Run a program in one of the namespaces."""
        return run("ip", "netns", "exec", self.names[who], *command)

    @property
    def swallowed(self) -> int:
        """Packets that the router has dropped without a word."""
        found = re.search(r"packets (\d+)", self.inside("router", "nft", "list", "counter", "ip",
                                                        "nat_that_forgets", "swallowed"))  # fmt: skip
        assert found
        return int(found[1])

    def _answers(self, logged: int) -> bool:
        return f"Server listening on {self.host} port {self.port}" in self.log()[logged:]

    def build(self) -> None:
        """Lay the cables, and teach the router to forget."""
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
        rules = self.folder / "rules"
        rules.write_text(RULES)
        self.inside("router", "nft", "-f", str(rules))
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


@pytest.fixture
def nat(clean_environment: None, sshd_installed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nat]:
    """A server behind a NAT that forgets; fab runs on the other side of it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if missing := [name for name in ("ip", "nft", "sysctl") if not shutil.which(name)]:
        unavailable(f"not installed: {', '.join(missing)}")
    tools = slow_tools(12, quiet=True)
    made = Nat(f"SetEnv PATH={tools.folder}:/usr/bin:/bin")
    try:
        try:
            made.build()
        except AssertionError as problem:  # this kernel or container doesn't let us
            unavailable(f"no router with conntrack can be made: {problem}")
        with made:
            fab = made.folder / "fab"
            fab.write_text(
                f'#!/bin/sh\nexec ip netns exec {made.names["client"]} {sys.executable} {cli.FAB} "$@"\n'
            )
            fab.chmod(0o755)
            monkeypatch.setattr(cli, "FAB", fab)
            yield made
    finally:
        made.tear_down()
        shutil.rmtree(tools.folder, ignore_errors=True)


def nat_project(folder: Path, nat: Nat, interval: float, count: int) -> Project:
    project = Project(folder / "project", nat, nat.new_dir())
    project.configure(ssh={**PATIENT, "keepalive": {"interval": interval, "count": count}})
    return project


def test_a_nat_that_forgets_is_held_by_keepalive(tmp_path: Path, nat: Nat) -> None:
    """The network forgets who is quiet for 3 s, and copying takes 12 s: with a keepalive of 1 s it is done on
    the first connection.
    """
    project = nat_project(tmp_path, nat, 1, 10)
    done = project.fab("deploy", "--json")
    assert done.host["phases"]["copy"] > 12, "the copy was not slow"
    assert done.host["reconnects"] == 0, str(done)
    assert nat.swallowed == 0
    assert (project.current / "index.html").read_text() == "one\n" and project.is_tidy()


def test_a_nat_that_forgets_without_keepalive(tmp_path: Path, nat: Nat) -> None:
    """The same with a keepalive that comes too late: packets are swallowed silently. That is noticed in
    interval * count seconds, told with its cause, and the copy that went on meanwhile is used.
    """
    project = nat_project(tmp_path, nat, 5, 2)
    done = project.fab("deploy", "--json")
    assert nat.swallowed > 0, "the network has swallowed nothing"
    assert done.host["reconnects"] >= 1
    done.says("the peer answered nothing for 10 s", "reconnected after")
    assert (project.current / "index.html").read_text() == "one\n" and project.is_tidy()
