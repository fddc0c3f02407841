"""Storage that fails in the middle, or lies: what is live stays, the message helps, room is given back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.helpers import PATIENT, Client
from tests.support.filesystems import fill, small_disk
from tests.support.listening import Listener, explained
from tests.support.network import run
from tests.support.project import Project, nothing_is_left, untouched
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(90)

DISK = 48 << 20
BULK = 3 << 20


@pytest.fixture
def disk(tmp_path: Path, sshd: Sshd) -> Iterator[Project]:
    """A site on a small file system of its own, with a first release live and another one written."""
    if os.geteuid() != 0:
        unavailable("mounting needs root")
    folder = sshd.new_dir("disk-")
    with small_disk(folder, str(DISK)):
        root = folder / "site"
        root.mkdir()
        project = Project(tmp_path / "project", sshd, sshd.give(root))
        project.configure(ssh=PATIENT)
        project.deployed()
        chance = random.Random(7)
        project.write({"index.html": "two\n"})
        for number in range(3):
            (project.build / f"bulk-{number}").write_bytes(chance.randbytes(BULK // 3))
        yield project


def remount(project: Project, how: str) -> None:
    """Read-only only once nobody has a file open there for writing."""

    def done() -> bool:
        try:
            run("mount", "-o", f"remount,{how}", str(project.deploy_to.parent))
        except AssertionError as problem:
            assert "busy" in str(problem), problem
            return False
        return True

    eventually(done, f"it is mounted {how}")


@pytest.mark.parametrize("step", ["upload", "copy", "switch"])
def test_a_file_system_that_becomes_read_only(disk: Project, step: str) -> None:
    """The host's disk has an error, and is mounted read-only from then on: exit 1, the message says so and
    what to do; what is live is untouched. When it can be written to again the same command works.
    """
    with Client(disk, step) as client:
        client.wait()
        remount(disk, "ro")
        try:
            with untouched(disk):
                said = client.go_on()
        finally:
            remount(disk, "rw")
    assert said["code"] == 1
    assert "Read-only file system" in said["error"]["why"], said
    assert "mounted read-only" in said["error"]["try"], said
    disk.fab("deploy")
    assert (disk.current / "index.html").read_text() == "two\n"
    nothing_is_left(disk)


@pytest.mark.parametrize(
    ("step", "leave"),
    [("upload", BULK // 2), ("copy", BULK // 2), ("copy", 0), ("before_switch", BULK // 6)],
)
def test_a_disk_that_fills_up(disk: Project, step: str, leave: int) -> None:
    """Somebody else fills the disk meanwhile: exit 1, the message says that there is no room and what to do,
    what is live is untouched, and the room that we took is given back.
    """
    disk.configure(ssh=PATIENT, hooks={"before_switch": ["echo building && cp bulk-0 bulk-3"]})
    ballast = disk.deploy_to.parent
    listener = Listener(**{step: lambda: fill(ballast, leave)})
    with untouched(disk):
        outcome = disk.deploy(listener=listener)
    assert (ballast / "ballast").exists(), "the disk was not filled"
    assert outcome.exit_code == 1
    explained(outcome.error, "No space left on device")
    if step != "before_switch":  # whose own advice is to run the hook by hand
        explained(outcome.error, "Free space (df -h)")
    assert not any("was killed" in note for note in listener.notes), listener.notes
    assert not list((disk.deploy_to / ".switchover/incoming").iterdir())
    assert len(disk.released) == 1, "a half release keeps its room"
    assert not disk.locked()
    (ballast / "ballast").unlink()
    disk.configure(ssh=PATIENT)
    disk.deployed()
    nothing_is_left(disk)


# -- what was not written as it was sent -----------------------------------------------------------------


def corrupt(path: Path) -> None:
    """Other content, and nothing that a listing would show."""
    info = path.stat()
    text = path.read_bytes()
    with path.open("r+b") as file:
        file.write(bytes(byte ^ 1 for byte in text))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert path.stat().st_size == info.st_size and path.read_bytes() != text


def spoil(project: Project, times: int) -> Callable[[], None]:
    """Corrupt index.html as it has arrived, that many times at the most."""
    left = [times]

    def once() -> None:
        if left[0]:
            left[0] -= 1
            (arrived,) = (project.deploy_to / ".switchover/incoming").glob("*/index.html")
            corrupt(arrived)

    return once


@pytest.mark.parametrize("strategy", ["cache", "previous"])
def test_a_file_that_is_damaged_before_verify_is_sent_again(project: Project, strategy: str) -> None:
    """A file is damaged on the host before it is verified, its size and time unchanged: that is noticed by
    its checksum, mended by sending it again, and told.
    """
    project.configure(ssh=PATIENT, strategy=strategy)
    project.deployed()
    project.write({"index.html": "two\n"})
    listener = Listener(copy=spoil(project, 1))
    project.deployed(listener=listener)
    assert listener.begun.count("copy") == 2, "it was not noticed"
    assert any("'index.html'" in note and "sent again" in note for note in listener.notes)
    assert (project.current / "index.html").read_text() == "two\n"
    nothing_is_left(project)


def test_a_file_that_is_damaged_each_time(project: Project) -> None:
    """It is damaged after the second sending too: exit 1 with the path, and the old release stays live."""
    project.deployed()
    project.write({"index.html": "two\n"})
    listener = Listener(copy=spoil(project, 2))
    with untouched(project):
        outcome = project.deploy(listener=listener)
    assert listener.begun.count("copy") == 2 and outcome.exit_code == 1
    explained(outcome.error, "is not what was deployed", "'index.html'", "--from-scratch")
    project.deployed()
    assert (project.current / "index.html").read_text() == "two\n"
    nothing_is_left(project)


@pytest.mark.parametrize("verify", ["full", "uploaded"])
def test_a_cache_that_has_decayed(project: Project, verify: str) -> None:
    """A file in the cache, not part of this upload, has decayed: `verify: full` notices and mends it;
    `uploaded` reads only what it has sent.
    """
    project.configure(ssh=PATIENT, verify=verify)
    project.deployed()
    corrupt(project.deploy_to / "cache/about.html")
    project.write({"index.html": "two\n"})
    listener = Listener()
    project.deployed(listener=listener)
    said = [note for note in listener.notes if "sent again" in note]
    mended = (project.current / "about.html").read_text() == "about\n"
    assert (bool(said), mended) == ((True, True) if verify == "full" else (False, False))
    assert all("'about.html'" in note for note in said)
    assert (project.current / "index.html").read_text() == "two\n"
