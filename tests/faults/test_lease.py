"""The lock's lease, and the dead man's switch: who vanishes blocks nobody for long, and breaks nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fabfile.errors import Locked
from fabfile.on_host import lock
from fabfile.on_host.layout import Layout
from fabfile.on_host.lock import LEASE, Lock, Owner
from fabfile.remote.jobs import Jobs
from fabfile.remote.shell import Script
from tests.faults.helpers import PATIENT, host_of, kill_sshd, record, unfinished
from tests.faults.racing import Race
from tests.support.listening import Listener, explained
from tests.support.project import Project, ProjectOn, nothing_is_left, untouched
from tests.support.proxy import Proxy
from tests.support.sshd import Sshd, detached_from
from tests.support.waiting import Barrier, eventually

pytestmark = pytest.mark.timeout(90)

ELSEWHERE = Owner("ann", "her-laptop", 4711, "2026-01-01T00:00:00+00:00", "fab deploy", place="another boot")


def hold(project: Project, owner: Owner, age: float = 0) -> Path:
    """The lock as `owner` has taken it, `age` seconds ago; its directory."""
    locks = project.deploy_to / ".switchover/lock"
    number = max(int(path.name) for path in locks.iterdir()) + 1
    taken = locks / str(number)
    taken.mkdir()
    (taken / "owner").write_text(json.dumps(asdict(owner)))
    for path in (taken, taken / "owner"):
        project.server.give(path)
    grow_old(taken, age)
    return taken


def grow_old(taken: Path, age: float) -> None:
    """As if its owner had given no sign of life for `age` seconds."""
    then = time.time() - age
    os.utime(taken / "owner", (then, then))


# -- who may take it -------------------------------------------------------------------------------------


def test_a_lock_of_somebody_else(project: Project) -> None:
    """Somebody on another machine deploys: exit 5, with who it is, and nothing is touched."""
    project.deployed()
    taken = hold(project, ELSEWHERE, LEASE / 2)
    with untouched(project):
        done = project.fab("deploy", code=5)
    done.says("is locked by another deployment", "ann@her-laptop", "4711", str(LEASE))
    assert not (taken / "released").exists()


def test_a_lock_whose_owner_died_before_it_could_sign(project: Project) -> None:
    """Nobody knows whose it is; after the seconds that signing may take, it is free."""
    project.deployed()
    taken = hold(project, ELSEWHERE)
    (taken / "owner").unlink()
    project.fab("deploy")
    nothing_is_left(project)


def test_a_lock_whose_lease_has_run_out(project: Project) -> None:
    """A CI run was cancelled on another machine: after the lease its lock is taken, and we say from whom."""
    project.deployed()
    hold(project, ELSEWHERE, LEASE + 10)
    project.write({"index.html": "two\n"})
    project.fab("deploy").says("taken from ann@her-laptop", "ended without releasing it")
    assert (project.current / "index.html").read_text() == "two\n"
    nothing_is_left(project)


def test_a_lease_that_has_run_out_while_its_job_still_runs(project: Project, barrier: Barrier) -> None:
    """The other client is gone, what it started on the host is not: exit 5 until that has ended."""
    project.deployed()
    host = host_of(project.server)
    jobs = Jobs(host.shell, f"{project.deploy_to}/.switchover/jobs/20260101000000", print)
    jobs.start("before_switch-1", barrier.hook, "A hook")
    barrier.wait()
    taken = hold(project, ELSEWHERE, LEASE + 10)
    with untouched(project):
        project.fab("deploy", code=5).says("ann@her-laptop", "as long as its jobs run")
    barrier.open()
    (job,) = (project.deploy_to / ".switchover/jobs").iterdir()
    eventually((job / "status").exists, "its job ends")
    grow_old(taken, LEASE + 10)
    project.fab("deploy").says("taken from ann@her-laptop")
    nothing_is_left(project)
    host.close()


def test_a_lock_of_a_dead_process_of_this_machine(project: Project) -> None:
    """Our own last run was killed: nobody needs to wait for its lease."""
    project.deployed()
    gone = subprocess.Popen(["true"])
    gone.wait(10)
    here = lock.me("fab deploy")
    hold(project, replace(here, pid=gone.pid))
    project.fab("deploy").says("taken from", f"pid {gone.pid}")
    nothing_is_left(project)
    # One that lives is respected.
    hold(project, here)
    project.fab("deploy", code=5).says(f"pid {os.getpid()}")


# -- losing it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["upload", "copy", "link", "before_switch", "switch"])
def test_a_lock_that_was_taken_over_meanwhile(project: Project, step: str) -> None:
    """Our lease ran out unnoticed, and somebody else deploys: we stop before the switch, touching nothing."""
    project.deployed()
    project.write({"index.html": "two\n"})
    project.configure(ssh=PATIENT, hooks={"before_switch": ["true"]})
    taken: list[Path] = []
    listener = Listener(**{step: lambda: taken.append(hold(project, ELSEWHERE))})
    with untouched(project):
        outcome = project.deploy(listener=listener)
    assert taken and outcome.exit_code == 1
    explained(outcome.error, "was broken while this command ran", "Nothing more was changed")
    assert not (taken[0] / "released").exists()
    assert "switch" not in listener.begun[listener.begun.index(step) + 1 :]
    project.fab("deploy", code=5).says("ann@her-laptop")


def test_a_client_that_was_stopped_for_longer_than_its_lease(project: Project, barrier: Barrier) -> None:
    """A laptop is closed during a deployment, a colleague deploys, the laptop wakes up: it stops, with why,
    and the colleague's release stays live.
    """
    project.deployed()
    project.write({"index.html": "two\n"})
    project.configure(ssh=PATIENT, hooks={"before_switch": [barrier.hook]})
    with project.start("deploy") as running:
        barrier.wait()
        os.killpg(running.process.pid, signal.SIGSTOP)
        try:
            barrier.open()
            locks = project.deploy_to / ".switchover/lock"
            hook = next((project.deploy_to / ".switchover/jobs").glob("*before_switch*"))
            eventually((hook / "status").exists, "the hook ends")
            taken = max(locks.iterdir(), key=lambda path: int(path.name))
            project.fab("deploy", code=5)  # for now
            grow_old(taken, LEASE + 10)
            project.write({"index.html": "three\n"})
            release = project.fab("deploy", "--json").host["release"]
        finally:
            os.killpg(running.process.pid, signal.SIGCONT)
        running.finish(1).says("was broken while this command ran")
    assert project.live == release
    assert (project.current / "index.html").read_text() == "three\n"
    nothing_is_left(project)


# -- races -----------------------------------------------------------------------------------------------


def test_two_hundred_races_for_the_lock(sshd: Sshd, host_dir: Path) -> None:
    """Two ask for the lock at the same moment, half of the times for one whose lease has run out: one gets
    it, the other is told so, and the winner can give it back.
    """
    hosts, layout = [host_of(sshd), host_of(sshd)], Layout(str(host_dir))
    for host in hosts:
        host.facts  # noqa: B018  (both are connected)
    start = threading.Barrier(2)
    lost_to: list[int] = []

    def take(number: int) -> Lock | None:
        one = Lock(hosts[number], layout, replace(lock.me("race"), place="", user=f"racer{number}"))
        start.wait(10)
        try:
            one.take(Script("Nothing", ":"))
            return one
        except Locked as error:
            lost_to.append(number)
            assert "is locked by another deployment" in error.what
            assert f"racer{number}" not in error.why
            return None

    with ThreadPoolExecutor(2) as pool:
        for turn in range(200):
            winners = [one for one in pool.map(take, range(2)) if one]
            assert len(winners) == 1, f"race {turn}: {len(winners)} have it"
            (winner,) = winners
            newest = max(int(path.name) for path in Path(layout.locks).iterdir())
            assert winner.number == newest
            winner.host.shell.run(f"{winner.guard}:")  # raises where it would not count as ours
            if turn % 2:
                winner.host.shell.run(winner.returning)
                assert lock.holder(winner.host, layout) == (False, None)
            else:
                grow_old(Path(layout.locks, str(newest)), LEASE + 10)
    assert len(lost_to) == 200 and set(lost_to) == {0, 1}, "the same one won every time: that was no race"
    for host in hosts:
        host.close()


def test_ten_racing_deployments(tmp_path: Path, sshd: Sshd, host_dir: Path) -> None:
    """Two deploy at the same moment: one is done, the other exits 5, and what is live is the winner's."""
    race = Race(tmp_path, sshd, host_dir)
    for turn in range(10):
        race.run(turn)


# -- the dead man's switch -------------------------------------------------------------------------------

WITHIN = 5


@pytest.fixture
def guarded(project_on: ProjectOn) -> Iterator[Project]:
    """A site whose host goes back by itself, with a first release live and another one written."""
    project = project_on()
    project.configure(ssh=PATIENT)
    project.deployed()
    project.write({"index.html": "two\n"})
    barrier = Barrier(project.server.new_dir("barrier-"))
    ssh = {**PATIENT, "reconnect": {"attempts": 100, "window": 60}}
    tells = f'echo "$SWITCHOVER_COMMAND $SWITCHOVER_RELEASE" >> {served(project)}'
    project.configure(ssh=ssh, confirm={"within": WITHIN}, hooks={"after_switch": [barrier.hook, tells]})
    yield project
    barrier.open()


def served(project: Project) -> Path:
    """Where the services write down what they have taken up."""
    return project.deploy_to.with_name(f"{project.deploy_to.name}.served")


def barrier_of(project: Project) -> Barrier:
    (folder,) = project.server.root.glob("barrier-*")
    return Barrier(folder)


def goes_back(project: Project, first: str) -> None:
    eventually(lambda: project.live == first, "the host puts the old link back", timeout=40)


def said_at(project: Project, words: str) -> str:
    """What `fab releases` has to say that has these words in it."""
    said = " ".join(project.fab("releases", "--json").stderr.split())
    return said[said.index(words) :] if words in said else ""


def test_the_client_vanishes_after_the_switch(guarded: Project) -> None:
    """The client is killed after the switch: the host goes back by itself, and the records say why."""
    first = guarded.live
    assert first
    with guarded.start("deploy") as running:
        barrier_of(guarded).wait()
        second = unfinished(guarded)
        assert guarded.live == second
        running.kill()
        goes_back(guarded, first)
    eventually(lambda: record(guarded, second)["state"] == "bad", "the record says so")
    assert f"for {WITHIN} s after the switch" in record(guarded, second)["note"]
    barrier_of(guarded).open()
    # The host alone has the services take up what is live again; the next command tells what it did.
    eventually(served(guarded).exists, "the hooks run in the old one")
    assert served(guarded).read_text() == f"switch-back {first}\n"
    told = f"the dead man's switch left {second} on "
    eventually(lambda: "hooks have run" in said_at(guarded, told), "it is told that they have run")
    # Nothing stands in the way of the next one.
    guarded.configure(ssh=PATIENT)
    assert told in " ".join(guarded.fab("deploy", "--json").stderr.split())
    assert not said_at(guarded, told)
    assert (guarded.current / "index.html").read_text() == "two\n"
    nothing_is_left(guarded)


def test_the_new_release_takes_sshd_with_it(guarded: Project) -> None:
    """sshd is gone after the switch: the host goes back by itself. When sshd is there again, the client
    learns that, and exits with 3.
    """
    first = guarded.live
    assert first
    with guarded.start("deploy", "--json") as running:
        barrier_of(guarded).wait()
        second = unfinished(guarded)
        assert guarded.live == second
        kill_sshd(guarded.server)
        goes_back(guarded, first)
        eventually(lambda: record(guarded, second)["state"] == "bad", "the record says so")
        assert f"for {WITHIN} s after the switch" in record(guarded, second)["note"]
        assert running.process.poll() is None
        barrier_of(guarded).open()
        guarded.server.start()
        running.finish(3).says("has gone back by itself", "confirm.within")
    assert guarded.live == first and guarded.states() == {first: "live", second: "bad"}
    # Once: what the host has done by itself, the client does not do again.
    assert served(guarded).read_text().split("\n").count(f"switch-back {first}") == 1
    assert f"for {WITHIN} s after the switch" in record(guarded, second)["note"]
    nothing_is_left(guarded)


def test_a_silent_network_after_the_switch(guarded: Project) -> None:
    """The network swallows everything for longer than confirm.within: the host goes back, the client exits
    with 3 once it is heard again.
    """
    first = guarded.live
    assert first
    with (
        Proxy(guarded.server.port) as network,
        guarded.start("deploy", hosts=guarded.address(network.port)) as running,
    ):
        barrier_of(guarded).wait()
        second = unfinished(guarded)
        network.freeze()
        goes_back(guarded, first)
        barrier_of(guarded).open()
        network.thaw()
        running.finish(3).says("has gone back by itself")
    assert guarded.live == first and record(guarded, second)["state"] == "bad"


def test_a_healthy_deployment_that_takes_longer(guarded: Project) -> None:
    """A client that is heard of keeps the new release live, however long it takes; the timer is gone then."""
    guarded.configure(
        ssh=PATIENT, confirm={"within": WITHIN}, hooks={"after_switch": [f"sleep {WITHIN + 2}; echo over"]}
    )
    done = guarded.fab("deploy", "--json")
    assert done.host["phases"]["after_switch"] > WITHIN and "confirm" in done.host["phases"]
    assert guarded.live == done.host["release"]
    assert record(guarded, done.host["release"])["state"] == "live"
    nothing_is_left(guarded)
    eventually(lambda: not detached_from(guarded.server.port), "the timer is gone")
    assert guarded.live == done.host["release"]
