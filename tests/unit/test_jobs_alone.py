"""Jobs by their scripts alone: whole or not at all, waited for, and known by more than a process id."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.errors import CommandFailed
from fabfile.remote import jobs
from fabfile.remote.host import Host
from fabfile.remote.jobs import Jobs
from fabfile.remote.script_files import Scripts
from tests.support.local import LocalShell, local_host, sh
from tests.support.programs import program
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("each_shell")

LONG = 300_000  # bytes of a script that can't travel as a command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "jobs"
    made.mkdir()
    return made


def shell_of(host: Host) -> LocalShell:
    assert isinstance(host.shell, LocalShell)
    return host.shell


def filler() -> str:
    return "\n".join(f": {'x' * 90} {n}" for n in range(LONG // 100))


# -- a script that comes in part -------------------------------------------------------------------------


def test_a_long_script_is_run(folder: Path) -> None:
    done = jobs.run(local_host().shell, str(folder / "a"), f"{filler()}\necho end", what="A job")
    assert done.text == "end\n"


@pytest.mark.promise("half-script")
@pytest.mark.parametrize("arrives", [0, 1000, LONG // 2, -3, -17], ids=str)
def test_half_a_script_is_never_run(folder: Path, tmp_path: Path, arrives: int) -> None:
    """The connection is cut while the script is sent, which looks to the host like its end."""
    host, trace = local_host(), tmp_path / "ran"
    shell_of(host).cut = arrives
    script = f"echo ran >> {trace}\n{filler()}"
    with pytest.raises(CommandFailed):
        jobs.run(host.shell, str(folder / "a"), script, what="A job")
    assert not trace.exists() and not (folder / "a/process").is_symlink()


# -- waiting for those of an interrupted command ---------------------------------------------------------


def test_jobs_that_still_run_are_waited_for(folder: Path, tmp_path: Path) -> None:
    """The job ends only once somebody waits for it: whoever does not, takes it for lost and removes it."""
    go = tmp_path / "go"
    job = f"n=0; while [ ! -e {go} ] && [ $n -lt 600 ]; do /bin/sleep 0.05; n=$((n + 1)); done; echo done"
    first = Jobs(local_host().shell, f"{folder}/20260101000000", print)
    first.start("build", job, "A job")
    (place,) = folder.iterdir()
    eventually((place / "process").is_symlink, "it is claimed")
    waiting = local_host(program(tmp_path / "bin", "readlink", f"touch {go}"))
    Jobs(waiting.shell, f"{folder}/20260101000000", print).settle()
    assert (place / "status").read_text() == "0\n"
    assert (place / "log").read_text() == "done\n"


def test_jobs_that_did_not_end_well_are_forgotten(folder: Path) -> None:
    own = Jobs(local_host().shell, f"{folder}/20260101000000", print)
    with pytest.raises(CommandFailed):
        own.run("build", "exit 3", "A job")
    own.settle()
    assert list(folder.iterdir()) == []


# -- who runs it -----------------------------------------------------------------------------------------


def start_time(pid: int) -> str:
    """Field 22 of proc_pid_stat(5), in clock ticks since the boot."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A program of this account which is no job of ours."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def claimed(folder: Path, pid: int, start: str, boot: str) -> Path:
    """A job's directory as its runner has left it."""
    job = folder / "20260101000000.build-0-1"
    job.mkdir()
    (job / "process").symlink_to(f"{pid} {start} {boot}")
    (job / "log").touch()
    return job


def alive(job: Path) -> int:
    return sh(f"{Scripts('fabfile.remote').functions('process')}\njob={job}\nalive").returncode


def test_a_job_lives_while_its_process_does(folder: Path, stranger: subprocess.Popen[bytes]) -> None:
    assert alive(claimed(folder, stranger.pid, start_time(stranger.pid), BOOT)) == 0


@pytest.mark.promise("pids")
@pytest.mark.parametrize("what", ["start time", "boot"])
def test_a_process_id_that_was_given_again_is_no_job(
    folder: Path, stranger: subprocess.Popen[bytes], what: str
) -> None:
    """After a restart, or long enough after it, the number is another program's."""
    start = "1" if what == "start time" else start_time(stranger.pid)
    boot = BOOT if what == "start time" else "another-boot"
    assert alive(claimed(folder, stranger.pid, start, boot)) == 1


def test_a_job_that_nobody_claimed(folder: Path) -> None:
    job = folder / "job"
    job.mkdir()
    assert alive(job) == 2


def test_a_job_whose_process_is_gone(folder: Path) -> None:
    gone = subprocess.Popen(["true"])
    start = start_time(gone.pid)
    gone.wait(10)
    assert alive(claimed(folder, gone.pid, start, BOOT)) == 1


@pytest.mark.promise("pids")
@pytest.mark.parametrize("how", ["end", "end_others"])
@pytest.mark.parametrize("what", ["start time", "boot"])
def test_a_strange_program_is_never_ended(
    folder: Path, stranger: subprocess.Popen[bytes], what: str, how: str
) -> None:
    """Its number stands in the directory of a job from before the restart."""
    start = "1" if what == "start time" else start_time(stranger.pid)
    claimed(folder, stranger.pid, start, BOOT if what == "start time" else "another-boot")
    own = Jobs(
        local_host().shell, f"{folder}/{'20260101000000' if how == 'end' else '20260102000000'}", print
    )
    own.end() if how == "end" else own.end_others()
    assert stranger.poll() is None, "it was ended"
    assert list(folder.iterdir()) == []


def test_a_jobs_name_tells_nothing_of_its_script(tmp_path: Path) -> None:
    """Whoever sees it in `ps` can't confirm a guess; all commands of a site see the same."""
    one, other = (Jobs(local_host().shell, str(tmp_path / "job"), print) for _ in range(2))
    assert one.place("hook", "secret") != other.place("hook", "secret")
    other.key = one.key
    assert one.place("hook", "secret") == other.place("hook", "secret") != one.place("hook", "other")


@pytest.mark.promise("other-accounts")
def test_what_runs_hooks_travels_in_no_argument_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret: list[object] = []
    mine = Jobs(local_host().shell, str(tmp_path / "job"), print)
    whole = type(mine.shell).run

    def noted(shell: LocalShell, script: str, **how: object) -> object:
        secret.append(how.get("secret"))
        return whole(shell, script, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(type(mine.shell), "run", noted)
    mine.run("hook", ":", "A hook", own_environment=True)
    mine.start("timer", ":", "A timer", for_hooks=True)
    assert secret == [True, True]
