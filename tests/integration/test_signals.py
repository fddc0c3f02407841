"""INT, TERM and HUP at any time: nothing half switched, the lock free soon, and an exit code that is true."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from fabfile.interruption import APART
from tests.support.fab import Running
from tests.support.programs import program
from tests.support.project import Project, ProjectOn, untouched
from tests.support.proxy import Proxy
from tests.support.sshd import runs
from tests.support.waiting import Barrier, eventually

pytestmark = [pytest.mark.timeout(120), pytest.mark.promise("signals")]

SOON = 45.0  # seconds from the signal to the end, on a machine that has other work
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
IDS = [number.name for number in SIGNALS]


@pytest.fixture
def project(project: Project) -> Project:
    """A site with a release that is live, and another to deploy."""
    project.deployed()
    project.write({"index.html": "two\n"})
    return project


def end(project: Project, running: Running, number: signal.Signals, code: int) -> str:
    """Send it, and see fab end soon, with that code, and the lock given back; what was said."""
    running.process.send_signal(number)
    done = running.finish(code, SOON)
    assert not project.locked()
    return done.stdout + done.stderr


@pytest.mark.parametrize("number", SIGNALS, ids=IDS)
def test_in_a_hook_before_the_switch(project: Project, barrier: Barrier, number: signal.Signals) -> None:
    """The after_failure hook hangs besides: it must not hold the lock."""
    project.configure(hooks={"before_switch": [barrier.hook], "after_failure": [barrier.hook]})
    with untouched(project), project.start("deploy") as running:
        barrier.wait()
        said = end(project, running, number, 1)
    assert number.name in said and project.is_tidy()
    assert len(project.released) == 1


@pytest.mark.parametrize("number", SIGNALS, ids=IDS)
def test_in_a_hook_after_the_switch(project: Project, barrier: Barrier, number: signal.Signals) -> None:
    first = project.live
    hang = f'[ "$SWITCHOVER_COMMAND" = switch-back ] || {{ {barrier.hook}; }}'
    project.configure(hooks={"after_switch": [hang]})
    with project.start("deploy") as running:
        barrier.wait()
        assert project.live != first
        end(project, running, number, 3)
    assert project.live == first and project.is_tidy()


def test_in_the_health_check(project: Project) -> None:
    first = project.live
    project.configure(health={"url": "http://127.0.0.1:9/", "timeout": 60})
    with project.start("deploy") as running:
        eventually(lambda: project.live != first, "it is switched")
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: project.live == first, "it is put back")
        time.sleep(APART)  # the next one is a wish of its own
        end(project, running, signal.SIGTERM, 3)
    assert project.live == first and project.is_tidy()


@pytest.mark.parametrize("step", ["after_failure", "after_switch again"])
def test_a_signal_on_the_way_back(project: Project, barrier: Barrier, step: str) -> None:
    """What is put back stays so; a hook that hangs there is ended, whether or not a signal came before."""
    first = project.live
    hang = f'[ "$SWITCHOVER_COMMAND" = deploy ] && exit 7; {barrier.hook}'
    if step == "after_failure":
        project.configure(hooks={"before_switch": ["false"], "after_failure": [barrier.hook]})
    else:
        project.configure(hooks={"after_switch": [hang]})
    with project.start("deploy") as running:
        barrier.wait()
        end(project, running, signal.SIGINT, 1 if step == "after_failure" else 4)
    assert project.live == first and project.is_tidy()


def test_while_it_connects(project: Project) -> None:
    """One attempt runs to its end."""
    project.configure(ssh={"connect_timeout": 3})
    with Proxy(project.server.port) as network, untouched(project):
        network.freeze()
        with project.start("deploy", hosts=project.address(network.port)) as running:
            eventually(lambda: network.connections, "it connects")
            end(project, running, signal.SIGTERM, 1)


def test_while_it_uploads(project: Project) -> None:
    (project.build / "large").write_bytes(os.urandom(8 << 20))
    with Proxy(project.server.port) as network, untouched(project):
        network.freeze_after(2 << 20)
        with project.start("deploy", hosts=project.address(network.port)) as running:
            eventually(lambda: network.frozen, "the upload is under way")
            timer = threading.Timer(1.0, network.thaw)  # the way back goes over the same connection
            timer.start()
            end(project, running, signal.SIGHUP, 1)
            timer.join()


def test_while_it_copies(project_on: ProjectOn, barrier: Barrier) -> None:
    """The host's cp takes its time."""
    project = project_on(programs={"cp": "true"})
    project.configure(copy="full")
    project.deployed()
    program(project.server.programs, "cp", barrier.hook)
    project.write({"index.html": "two\n"})
    with untouched(project), project.start("deploy") as running:
        barrier.wait()
        end(project, running, signal.SIGTERM, 1)


def test_a_hangup_that_is_ignored_stays_so(project: Project, barrier: Barrier) -> None:
    """nohup fab deploy &"""
    first = project.live
    project.configure(hooks={"before_switch": [barrier.hook]})
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = project.start("deploy")
    finally:
        signal.signal(signal.SIGHUP, kept)
    with running:
        barrier.wait()
        running.process.send_signal(signal.SIGHUP)
        barrier.open()
        running.finish(0)
    assert project.live != first


@pytest.mark.parametrize("number", SIGNALS, ids=IDS)
def test_a_local_build_ends_with_all_it_started(project: Project, number: signal.Signals) -> None:
    pid = project.folder / "pid"
    project.configure(hooks={"local_build": [f"sleep 300 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"]})
    with untouched(project), project.start("deploy") as running:
        eventually(pid.exists, "it is being built")
        end(project, running, number, 1)
    eventually(lambda: not runs(int(pid.read_text())), "what it started is ended", 5)
