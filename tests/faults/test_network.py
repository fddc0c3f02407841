"""The seed's case, and worse: a connection that is dropped because it is idle while the host copies."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.remote import jobs, raw_ssh
from tests.faults.helpers import PATIENT, host_of
from tests.support.fab import FAB
from tests.support.network import Routed
from tests.support.project import Project, ProjectOn
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(90)

# A copy that takes its time, on a host where nothing else moves meanwhile: what a job's follower sends now
# and then would hold a NAT too.
SLOW_CP = 'case "$*" in */cache\\ *|*/cache/*) sleep {seconds} ;; esac'
SLOW_FOLLOWER = "case $1 in 0.2) shift; set -- 13 ;; esac"


def slow_tools(seconds: float) -> dict[str, str]:
    return {"cp": SLOW_CP.format(seconds=seconds)}


# -- a server that drops who is idle ---------------------------------------------------------------------


def test_a_server_that_drops_idle_clients_and_a_slow_copy(project_on: ProjectOn) -> None:
    """sshd drops whoever is idle for 3 s, connections without a session, and clients that don't answer; and
    copying the cache takes 10 s. It is done at the first try, on the first connection.
    """
    extra = (
        "ChannelTimeout session:*=3s\nUnusedConnectionTimeout 3s\n"
        "ClientAliveInterval 1\nClientAliveCountMax 2"
    )
    project = project_on(extra=extra, programs=slow_tools(10))
    project.configure(ssh=PATIENT)
    done = project.fab("deploy", "--json")
    assert done.host["phases"]["copy"] > 10, "the copy was not slow"
    assert done.host["reconnects"] == 0, str(done)
    done.says("the server had closed the SFTP channel; it was opened again")
    assert (project.current / "index.html").read_text() == "one\n" and project.is_tidy()


# -- a NAT that forgets ----------------------------------------------------------------------------------


@pytest.fixture
def nat(clean_environment: None, sshd_installed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Routed]:
    """A server behind a NAT that forgets; fab runs on the other side of it."""
    if os.geteuid() != 0:
        unavailable("network namespaces need root")
    if missing := [name for name in ("ip", "nft", "sysctl") if not shutil.which(name)]:
        unavailable(f"not installed: {', '.join(missing)}")
    made = Routed(programs={**slow_tools(12), "sleep": SLOW_FOLLOWER})
    try:
        try:
            made.build()
        except AssertionError as problem:  # this kernel or container doesn't let us
            unavailable(f"no router with conntrack can be made: {problem}")
        with made:
            fab = made.folder / "fab"
            fab.write_text(
                f'#!/bin/sh\nexec ip netns exec {made.names["client"]} {sys.executable} {FAB} "$@"\n'
            )
            fab.chmod(0o755)
            monkeypatch.setattr("tests.support.fab.FAB", fab)
            yield made
    finally:
        made.tear_down()


def nat_project(folder: Path, nat: Routed, interval: float, count: int) -> Project:
    project = Project(folder / "project", nat, nat.new_dir())
    project.configure(ssh={**PATIENT, "keepalive": {"interval": interval, "count": count}})
    return project


def test_a_nat_that_forgets_is_held_by_keepalive(tmp_path: Path, nat: Routed) -> None:
    """The network forgets who is quiet for 3 s, and copying takes 12 s: with a keepalive of 1 s it is done on
    the first connection.
    """
    project = nat_project(tmp_path, nat, 1, 10)
    done = project.fab("deploy", "--json")
    assert done.host["phases"]["copy"] > 12, "the copy was not slow"
    assert done.host["reconnects"] == 0, str(done)
    assert nat.swallowed == 0
    assert (project.current / "index.html").read_text() == "one\n" and project.is_tidy()


def test_a_nat_that_forgets_without_keepalive(tmp_path: Path, nat: Routed) -> None:
    """The same with a keepalive that comes too late: packets are swallowed silently. That is noticed in
    interval * count seconds, told with its cause, and the copy that went on meanwhile is used.
    """
    project = nat_project(tmp_path, nat, 5, 2)
    done = project.fab("deploy", "--json")
    assert nat.swallowed > 0, "the network has swallowed nothing"
    assert done.host["reconnects"] >= 1
    done.says("the peer answered nothing for 10 s", "reconnected after")
    assert (project.current / "index.html").read_text() == "one\n" and project.is_tidy()


def test_a_quiet_job_keeps_its_channel(clean_environment: None, sshd_installed: None) -> None:
    """sshd closes the channels of commands that say nothing for 2 s. Whoever follows a job that is quiet for
    longer is not cut off; a plain command is.
    """
    with Sshd(extra="ChannelTimeout session:command=2s") as server:
        host = host_of(server)
        jobs.run(host.shell, str(server.new_dir() / "job"), "sleep 4", what="A quiet job")
        assert "inactivity" not in server.log()
        assert raw_ssh.execute(host.connection.transport, "sleep 6", 10).status == -1
        assert "inactivity" in server.log(), "this server closes no channels"
        host.close()
