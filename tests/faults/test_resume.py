"""What was begun is gone on with: uploads from where they were cut, deployments by --resume or a re-run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fabric
import pytest

from fabfile import fleet
from fabfile.settings import load
from tests.faults.helpers import LARGE, PATIENT, Client, record, unfinished, write_big_source
from tests.support.fab import Running
from tests.support.listening import Listener
from tests.support.project import Project, nothing_is_left, untouched
from tests.support.proxy import Proxy
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd, descendants, detached_from, end_processes
from tests.support.trees import assert_same
from tests.support.waiting import Barrier, eventually

pytestmark = pytest.mark.timeout(90)


# -- uploads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", ["stream", "sftp", "rsync"])
def test_a_cut_upload_sends_only_the_rest(project: Project, network: Proxy, transfer: str) -> None:
    """The connection is cut in the middle of a large file: the deployment comes through by itself, nothing
    that had arrived whole is sent again, and the large file goes on inside.
    """
    if transfer == "rsync" and not (shutil.which("rsync") and shutil.which("ssh")):
        unavailable("rsync or ssh is not installed")
    size = write_big_source(project)
    project.configure(ssh=PATIENT, transfer=transfer)
    network.cut_after(LARGE // 2)
    outcome = project.deploy(targets=[project.address(network.port)])
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert network.cuts == 1, "the upload was not cut"
    if transfer != "rsync":  # whose own connection it may have been
        assert outcome.hosts[0].reconnects >= 1
    assert_same(project.build, project.current)
    assert network.uploaded < 1.3 * size, f"{network.uploaded / size:.2f} times its size was sent"
    assert project.is_tidy()


@pytest.mark.parametrize("transfer", ["stream", "sftp", "rsync"])
def test_a_killed_upload_is_gone_on_with(project: Project, network: Proxy, transfer: str) -> None:
    """The client is killed (SIGKILL) in the middle of an upload. The same command, run again, sends the rest
    only, and tells that --resume would have finished the very release.
    """
    if transfer == "rsync" and not (shutil.which("rsync") and shutil.which("ssh")):
        unavailable("rsync or ssh is not installed")
    size = write_big_source(project)
    project.configure(ssh=PATIENT, transfer=transfer)
    network.freeze_after(LARGE // 2)
    with project.start("deploy", hosts=project.address(network.port)) as running:
        eventually(lambda: network.frozen, "half of it is uploaded")
        end_processes([running.process.pid, *descendants(running.process.pid)])  # rsync is one of them
        assert running.process.wait(10) == -9
    network.cut()
    network.thaw()
    eventually(lambda: network.open_connections == 0, "its connections are gone")
    first = network.uploaded
    assert first < 0.9 * size, "it was killed too late"
    half = unfinished(project)
    done = project.fab("deploy", "--json", hosts=project.address(network.port))
    done.says(f"{half}, of the same source, was interrupted: --resume would finish it")
    assert done.host["release"] == project.live != half
    assert_same(project.build, project.current)
    assert network.uploaded < 1.3 * size, f"{network.uploaded / size:.2f} times its size was sent"
    nothing_is_left(project)


def test_a_part_of_another_content_is_not_gone_on_with(project: Project, network: Proxy) -> None:
    """What lies there of a large file is of another content (a damaged disk): it is sent whole, and right."""
    write_big_source(project)
    project.configure(ssh=PATIENT, transfer="stream")
    network.freeze_after(LARGE // 2)
    with project.start("deploy", hosts=project.address(network.port)) as running:
        eventually(lambda: network.frozen, "half of it is uploaded")
        running.kill()
        running.process.wait(10)
    network.cut()
    network.thaw()
    eventually(lambda: network.open_connections == 0, "its connections are gone")
    (part,) = (project.deploy_to / ".switchover/incoming").glob("*/m/large.bin")
    eventually(lambda: not detached_from(project.server.port), "nobody writes to it any more")
    assert 8 << 20 < part.stat().st_size < LARGE, "it has not arrived in part"
    with part.open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    project.fab("deploy")
    assert_same(project.build, project.current)


# -- deployments -----------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, gated: Sshd) -> Iterator[Project]:
    """A site on the host whose copies can be held, with a first release live and another one written."""
    made = Project(tmp_path / "project", gated, gated.new_dir())
    made.configure(ssh=PATIENT)
    made.deployed()
    made.write({"index.html": "two\n"})
    yield made
    (made.deploy_to / ".gate").unlink(missing_ok=True)


def killed_while_copying(site: Project, use: str = "copy") -> str:
    """A deployment whose client was killed while the host copies, or puts the upload in its `place`; its
    release. The gate is still closed.
    """
    (site.deploy_to / ".gate").write_text(use)
    with site.start("deploy") as running:
        eventually((site.deploy_to / ".reached").exists, "it copies", timeout=40)
        dead(running)
    return unfinished(site)


def dead(running: Running) -> None:
    """Killed, and nothing else."""
    assert running.process.poll() is None, "it ended before it was killed"
    running.kill()
    running.process.wait(10)


def finished(site: Project, first: str, second: str) -> None:
    """The second release is live and in order, the first one is there to go back to."""
    assert site.live == second
    assert site.states() == {first: "good", second: "live"}
    assert_same(site.build, site.current)
    nothing_is_left(site)


def test_resume_after_a_kill_during_copy(site: Project) -> None:
    """The client is killed while the host copies: --resume finishes the same release."""
    first = site.live
    assert first
    half = killed_while_copying(site)
    assert site.live == first
    (site.deploy_to / ".gate").unlink()
    done = site.fab("deploy", "--resume", "--json")
    assert done.host["release"] == half
    finished(site, first, half)


@pytest.mark.parametrize("use", ["place", "copy"])
def test_resume_while_the_copy_still_goes_on(site: Project, use: str) -> None:
    """The host works on without us: --resume waits for that instead of starting it again, and goes on from
    what it has made of the host meanwhile.
    """
    first = site.live
    assert first
    half = killed_while_copying(site, use)
    with Client(site, "resume", resume=True) as client:
        client.wait()  # it knows the host as it was while the copy still went on
        (site.deploy_to / ".gate").unlink()
        said = client.go_on()
    assert said["code"] == 0, said["error"]
    finished(site, first, half)


def test_another_deployment_while_the_upload_still_gets_in(site: Project) -> None:
    """The host still puts the upload of a killed deployment in its place: another one, of something else,
    ends that, and what is live in the end is exactly its own source.
    """
    first = site.live
    assert first
    half = killed_while_copying(site, "place")
    site.write({"index.html": "three\n", "more.html": "more\n"})
    with Client(site, "check") as client:
        client.wait()
        (site.deploy_to / ".gate").unlink()
        eventually(lambda: ended(site, half), "the upload is in its place")
        said = client.go_on()
    assert said["code"] == 0, said["error"]
    assert site.live
    finished(site, first, site.live)


def test_a_cache_sync_while_the_upload_still_gets_in(site: Project) -> None:
    """The same, where a cache-sync comes next: the cache holds exactly what is asked for."""
    half = killed_while_copying(site, "place")
    site.write({"index.html": "three\n", "more.html": "more\n"})
    jobs = site.deploy_to / ".switchover/jobs"
    with site.start("cache-sync") as running:
        eventually(lambda: not list(jobs.glob(f"{half}.*")), "the abandoned job is ended")
        (site.deploy_to / ".gate").unlink()
        running.finish()
    assert_same(site.build, site.deploy_to / "cache")
    eventually(lambda: not detached_from(site.server.port), "no job is left running")
    done = site.fab("cache-sync", "--verify", "--json")
    assert done.host["drift"] == {"missing": [], "altered": [], "extra": []}


def ended(site: Project, release: str) -> bool:
    """Whether the job that builds a release has ended."""
    return bool(list((site.deploy_to / ".switchover/jobs").glob(f"{release}.build-*/status")))


@pytest.mark.parametrize("hook", ["before_switch", "after_switch"])
def test_resume_after_a_kill_during_a_hook(site: Project, hook: str) -> None:
    """The client is killed while a hook runs on the host: --resume finishes the same release, and the hook
    has run once in total.
    """
    first = site.live
    assert first
    barrier = Barrier(site.server.new_dir("barrier-"))
    site.configure(ssh=PATIENT, hooks={hook: [f"{barrier.hook}; echo ran >> {barrier.reached}"]})
    with site.start("deploy") as running:
        barrier.wait()
        dead(running)
    half = unfinished(site)
    assert (site.live == half) == (hook == "after_switch")
    barrier.open()
    done = site.fab("deploy", "--resume", "--json")
    assert done.host["release"] == half
    assert barrier.reached.read_text() == "ran\n"
    finished(site, first, half)


def test_resume_after_a_hook_that_was_killed_too(site: Project) -> None:
    """Client and host die while the hook runs (a power cut): --resume runs it again, and finishes."""
    first = site.live
    assert first
    barrier = Barrier(site.server.new_dir("barrier-"))
    site.configure(ssh=PATIENT, hooks={"before_switch": [f"echo $$ >> {barrier.reached}; {barrier.hook}"]})
    with site.start("deploy") as running:
        barrier.wait()
        dead(running)
    half = unfinished(site)
    end_processes(detached_from(site.server.port))
    barrier.open()
    site.fab("deploy", "--resume")
    assert len(barrier.reached.read_text().split()) == 2
    finished(site, first, half)


@pytest.mark.parametrize("step", ["compare", "upload", "verify", "switch", "unlock"])
def test_resume_from_each_step(site: Project, step: str) -> None:
    """The client is killed at the beginning of a step: --resume finishes, and a release is never half."""
    first = site.live
    assert first
    with Client(site, step) as client:
        client.wait()
        client.kill()
    if step in ("compare", "upload"):  # nothing was written yet
        site.fab("deploy", "--resume", code=1).says("There is no interrupted deployment of this source")
        site.fab("deploy")
        assert_same(site.build, site.current)
        nothing_is_left(site)
        return
    half = unfinished(site)
    site.fab("deploy", "--resume")
    finished(site, first, half)


def test_resume_of_another_source(site: Project) -> None:
    """--resume with another source than the interrupted one: refused, and the interrupted one can still be
    finished.
    """
    first = site.live
    assert first
    half = killed_while_copying(site)
    (site.deploy_to / ".gate").unlink()
    site.write({"index.html": "three\n"})
    with untouched(site):
        site.fab("deploy", "--resume", code=1).says(
            "There is no interrupted deployment of this source to resume", "without --resume"
        )
    assert unfinished(site) == half
    site.write({"index.html": "two\n"})
    site.fab("deploy", "--resume")
    finished(site, first, half)


def test_resume_of_nothing(site: Project) -> None:
    """--resume where nothing was interrupted: refused, with what to do instead."""
    with untouched(site):
        site.fab("deploy", "--resume", code=1).says("There is no interrupted deployment", " releases\n")
    nothing_is_left(site)


def test_a_half_built_release_is_nobodys_way_back(site: Project) -> None:
    """A half-built release is listed as that, and no rollback takes it."""
    half = killed_while_copying(site)
    (site.deploy_to / ".gate").unlink()
    with untouched(site):
        (entry,) = site.fab("releases", "--json").json["hosts"]
        assert {r["id"]: r["state"] for r in entry["releases"]}[half] == "building"
        site.fab("rollback", code=1).says("There is no good release before the live one")
        site.fab("rollback", "--to", half, code=1).says("is not a release to go back to", "building")


def test_a_plain_deployment_of_something_else_cleans_up(site: Project) -> None:
    """After a kill, something else is deployed: nothing of the interrupted release is left on the host."""
    first = site.live
    assert first
    half = killed_while_copying(site)
    (site.deploy_to / ".gate").unlink()
    site.write({"index.html": "three\n", "more.html": "more\n"})
    done = site.fab("deploy", "--json")
    assert done.host["release"] != half and not (site.deploy_to / "releases" / half).exists()
    finished(site, first, done.host["release"])
    assert record(site, first)["state"] == "good"
    eventually(lambda: not detached_from(site.server.port), "no job is left running")


def test_a_rollback_where_the_host_goes_back_by_itself(site: Project) -> None:
    """Between the rollback's first look and its switch, a timer of a dead deployment goes back to the very
    release: that one is live, and nothing says that somebody has left it.
    """
    first = site.live
    assert first
    site.deployed()
    (site.deploy_to / ".switchover/jobs/abandoned.deadman-0-1").mkdir(parents=True)

    def go_back() -> None:
        site.current.unlink()
        site.current.symlink_to(f"releases/{first}")

    outcome = fleet.rollback(
        load(site.folder / "config.yaml"),
        [fleet.Target(site.address(), str(site.server.identity))],
        listener=Listener(check=go_back),
        config=fabric.Config(runtime_ssh_path=str(site.ssh_config)),
    )
    assert outcome.ok, outcome.error
    assert site.live == first
    assert (record(site, first)["state"], record(site, first)["left"]) == ("live", False)
