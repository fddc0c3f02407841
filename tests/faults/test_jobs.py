"""Jobs on a real host: they run once, are followed to the byte, and end with their children."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fabfile.errors import CommandFailed, CommandTimedOut, JobLost
from fabfile.remote import jobs
from fabfile.remote.host import Host
from fabfile.remote.jobs import Jobs
from tests.faults.helpers import all_gone, host_of, processes, sessions
from tests.support.programs import tools
from tests.support.proxy import Proxy
from tests.support.sshd import Sshd, end_processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(60)

# A script with a child, and one with a child that does not want to end; each writes down who it is.
FAMILY = "echo $$ >> {file}; sleep 300 & echo $! >> {file}; sleep 300"
STUBBORN = (
    "sh -c 'trap \"\" TERM; echo $$ >> {file}; while :; do sleep 1; done' & echo $$ >> {file}; sleep 300"
)


@pytest.fixture(scope="module")
def bare(sshd_installed: None) -> Iterator[Sshd]:
    """A server where there is no setsid."""
    with tools(without=("setsid",)) as folder, Sshd(extra=f"SetEnv PATH={folder}") as server:
        yield server


@pytest.fixture(params=["setsid", "no setsid"])
def server(request: pytest.FixtureRequest, sshd: Sshd) -> Sshd:
    """Each kind of host."""
    chosen: Sshd = sshd if request.param == "setsid" else request.getfixturevalue("bare")
    return chosen


@pytest.fixture
def place(server: Sshd) -> Path:
    """A directory on the host."""
    return server.new_dir("jobs-")


@pytest.fixture
def host(server: Sshd) -> Iterator[Host]:
    made = host_of(server, command_timeout=30)
    assert made.has("setsid") == ("SetEnv" not in server.config.read_text())
    yield made
    made.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_two_attaches_at_once_run_it_once(server: Sshd, place: Path) -> None:
    """Two sessions ask for the same job at the same moment: one runs it, both see all it prints."""
    hosts = [host_of(server), host_of(server)]
    for host in hosts:
        host.shell.run(":")  # both are connected
    for turn in range(8):
        both, gate, ran = threading.Barrier(2), place / f"gate-{turn}", place / f"ran-{turn}"
        attached: list[str] = []
        script = f"echo ran >> {ran}; echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo over"

        def follow(host: Host, both=both, attached=attached, script=script, turn=turn) -> bytes:  # type: ignore[no-untyped-def]
            both.wait(10)
            return jobs.run(
                host.shell, f"{place}/{turn}", script, what="It", timeout=30, on_line=attached.append
            ).out

        with ThreadPoolExecutor(2) as pool:
            said = [pool.submit(follow, host) for host in hosts]
            try:
                eventually(lambda attached=attached: attached == ["begun"] * 2, "both follow while it runs")
            finally:
                gate.touch()
            assert [one.result(30) for one in said] == [b"begun\nover\n"] * 2
        assert ran.read_text() == "ran\n"
    for host in hosts:
        host.close()


def test_cut_in_the_middle_it_goes_on_from_the_byte_it_had(server: Sshd, place: Path) -> None:
    """The connection is cut twice, in a burst of output and in a pause: every line is shown once, in order,
    and what was seen already does not travel again.
    """
    burst, size = 50_000, 100  # more than a channel's window holds
    gate = place / "gate"
    count = f"awk 'BEGIN {{ for (i = 1; i <= {burst}; i++) printf \"%0{size - 1}d\\n\", i }}'"
    script = f"{count}; echo pause; while [ ! -e {gate} ]; do sleep 0.05; done; {count}"
    lines: list[str] = []
    with Proxy(server.port) as network, ThreadPoolExecutor(1) as pool:
        host = host_of(server, network.port, command_timeout=30)

        def see(line: str) -> None:
            lines.append(line)
            if len(lines) == 1000:
                network.cut()

        running = pool.submit(jobs.run, host.shell, f"{place}/job", script, what="It", on_line=see)
        eventually(lambda: lines[-1:] == ["pause"], "the first burst is there")
        assert (network.cuts, network.connections) == (1, 2), "it was not cut in the burst"
        assert network.cut() == 1
        eventually(lambda: network.connections == 3, "it connects again")
        gate.touch()
        done = running.result(30)
        host.close()
        assert host.connection.reconnects == 2
        assert network.downloaded < 2 * burst * size * 1.3, "what was there already was sent again"
    numbers = [f"{number:0{size - 1}d}" for number in range(1, burst + 1)]
    assert lines == [*numbers, "pause", *numbers]
    assert done.out.endswith("".join(f"{number}\n" for number in numbers[-500:]).encode())


def test_the_session_is_killed_and_the_job_is_not(server: Sshd, host: Host, place: Path) -> None:
    """sshd's own processes die under a job, as at a restart of sshd: the job is there when we come back."""
    gate = place / "gate"

    def see(line: str) -> None:
        if line == "begun":
            end_processes(sessions(server))
            gate.touch()

    script = f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo over"
    assert jobs.run(host.shell, f"{place}/job", script, what="It", on_line=see).out == b"begun\nover\n"
    assert host.connection.reconnects >= 1


@pytest.mark.parametrize(
    ("script", "status"),
    [("echo no; exit 7", 7), ("echo no; kill -KILL $$", 137), ("echo no; kill -TERM $$", 143)],
    ids=["exit", "killed", "ended"],
)
def test_the_exit_status(server: Sshd, host: Host, place: Path, script: str, status: int) -> None:
    """A job that fails, or is killed by a signal, is told as that, with what it said last."""
    with pytest.raises(CommandFailed) as caught:
        jobs.run(host.shell, f"{place}/job", script, what="It")
    assert f"exit status {status}: no" in caught.value.why
    # Whoever asks again is told the same, and nothing runs again.
    with pytest.raises(CommandFailed) as again:
        jobs.run(host.shell, f"{place}/job", script, what="It")
    assert again.value.why == caught.value.why


@pytest.mark.parametrize("family", [FAMILY, STUBBORN], ids=["willing", "stubborn"])
def test_the_deadline_ends_it_with_its_children(host: Host, place: Path, family: str) -> None:
    """A job that takes too long is ended on the host, children too, and the message names the setting."""
    pids: list[int] = []
    watch = in_thread(lambda: pids.extend(processes(place / "pids", 2)))
    with pytest.raises(CommandTimedOut) as caught:
        jobs.run(host.shell, f"{place}/job", family.format(file=place / "pids"), what="It", timeout=2)
    watch.join(10)
    assert len(pids) >= 2, "its processes were not seen alive"
    assert "after 2 s" in caught.value.why and "command_timeout" in caught.value.hint
    all_gone(pids)


@pytest.mark.parametrize("family", [FAMILY, STUBBORN], ids=["willing", "stubborn"])
def test_end_cancels_it_with_its_children(host: Host, place: Path, family: str) -> None:
    """A deployment that gives up leaves no job behind, nor what that has started."""
    ours = Jobs(host.shell, f"{place}/jobs/one", lambda text: None)
    ours.start("work", family.format(file=place / "pids"), "It")
    pids = processes(place / "pids", 2)
    other = Jobs(host.shell, f"{place}/jobs/two", lambda text: None)
    other.start("work", f"echo $$ > {place}/other; sleep 300", "Another")
    theirs = processes(place / "other", 1)
    ours.end()
    all_gone(pids)
    assert [path.name.partition(".")[0] for path in (place / "jobs").iterdir()] == ["two"]
    assert processes(place / "other", 1) == theirs  # those of others run on
    ours.end_others()
    all_gone(theirs)
    assert list((place / "jobs").iterdir()) == []


def kill_job(place: Path) -> None:
    """Kill a job from outside as a reboot does: its runner, which could tell of it, first."""
    pids = processes(place / "pids", 2)
    (job,) = (place / "jobs").iterdir()
    end_processes([int(os.readlink(job / "process").split()[0]), *pids])  # noqa: PTH115


def test_killed_from_outside(host: Host, place: Path) -> None:
    """A job that must not run twice (a hook) and was killed on the host: said so, with the likely causes."""
    ours = Jobs(host.shell, f"{place}/jobs/one", lambda text: None)
    reaper = in_thread(lambda: kill_job(place))
    with pytest.raises(JobLost) as caught:
        ours.run("hook", FAMILY.format(file=place / "pids"), "It", repeatable=False)
    reaper.join(10)
    assert "gone" in caught.value.why and "KillUserProcesses" in caught.value.hint


def test_killed_from_outside_a_repeatable_one_runs_again(host: Host, place: Path) -> None:
    """Where the host ends what is detached, the step is done again under our connection; we say so."""
    notes: list[str] = []
    ours = Jobs(host.shell, f"{place}/jobs/one", notes.append)
    reaper = in_thread(lambda: kill_job(place))
    family = FAMILY.format(file=place / "pids")
    script = f"[ ! -e {place}/once ] || {{ echo done; exit 0; }}; : > {place}/once; {family}"
    assert ours.run("copy", script, "Copying").out == b"done\n"
    reaper.join(10)
    (note,) = notes
    assert "Copying was killed on the host" in note and "run again, attached" in note


def test_one_that_nobody_claims(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is killed while it starts: that is noticed, and not waited for."""
    place, host = sshd.new_dir("jobs-"), host_of(sshd)
    monkeypatch.setattr(jobs._scripts, "functions", lambda name: "exit 0")
    with pytest.raises(JobLost) as caught:
        jobs.run(host.shell, f"{place}/job", f"touch {place}/ran", what="It")
    assert "never started" in caught.value.why and not (place / "ran").exists()
    host.close()


def test_a_zombie_does_not_count_as_alive(server: Sshd, host: Host, place: Path) -> None:
    """Its runner is dead, and nobody has reaped it: the job is lost, and is not waited for."""
    job = place / "job"
    job.mkdir()
    dead = subprocess.Popen(["true"])
    stat = Path(f"/proc/{dead.pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "it is a zombie")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (job / "process").symlink_to(f"{dead.pid} {stat.read_text().rpartition(')')[2].split()[19]} {boot}")
    (job / "log").touch()
    try:
        with pytest.raises(JobLost):
            jobs.run(host.shell, str(job), "true", what="A job")
    finally:
        dead.wait(5)
