"""copy: recycle: the oldest release becomes the new one, and nothing of what was done to it stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fabfile.commands.deployment import Options
from fabfile.events import Event, Note
from tests.support.project import Project, nothing_is_left, snapshot, untouched
from tests.support.sshd import Sshd
from tests.support.trees import assert_same


@pytest.fixture
def project(project: Project) -> Project:
    """Two releases are there; the next deployment has no use for the first one any more."""
    settle(project, strategy="cache")
    project.write(
        {"lib/a.php": "a\n", "lib/b.php": "b\n", "old/gone.php": "gone\n", "odd ' name\n.txt": "odd\n"}
    )
    project.deployed()
    project.write({"index.html": "two\n"})
    project.deployed()
    return project


def settle(project: Project, **settings: Any) -> None:
    project.configure(keep_releases=2, **settings)


def deploy(project: Project, **options: Any) -> tuple[str, list[str]]:
    """Deploy; how the release was copied, and what was noted. The release is the source, to the last byte."""
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    outcome = project.deploy(listener=listen, **options)
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert_same(project.build, project.current)
    nothing_is_left(project)
    return outcome.hosts[0].copy, notes


def oldest(project: Project) -> Path:
    """The release that can be recycled."""
    return project.deploy_to / "releases" / project.released[0]


def test_the_oldest_release_becomes_the_new_one(project: Project) -> None:
    """Files that did not change are the very files of the old release; all else is as in the source."""
    old, kept = oldest(project), (oldest(project) / "lib/a.php").stat().st_ctime_ns
    second = project.live
    project.write(
        {"index.html": "three\n", "lib/b.php": None, "lib/new.php": "new\n", "deep/er/x.php": "x\n",
         "old/gone.php": None, "about.html": None}
    )  # fmt: skip
    (project.build / "old").rmdir()
    (project.build / "old").write_text("a file in the place of a directory\n")
    (project.build / "about.html").mkdir()
    (project.build / "about.html/index.html").write_text("a directory in the place of a file\n")
    (project.build / "css/site.css").unlink()
    (project.build / "css/site.css").symlink_to("../index.html")
    with live_release_untouched(project):
        copied, _ = deploy(project)
    assert copied == "recycle"
    assert not old.exists()
    assert (project.current / "lib/a.php").stat().st_ctime_ns == kept
    assert project.states() == {second: "good", project.live: "live"}


@contextmanager
def live_release_untouched(project: Project) -> Iterator[None]:
    """What was live before is not written to, though it is not live any more afterwards."""
    live = project.current.resolve()
    before = snapshot(live)
    yield
    assert snapshot(live) == before


def in_place(path: Path) -> None:
    """Other content, size and modification time as before: only the inode change time tells."""
    info = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


DRIFT: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: in_place(tree / "lib/a.php"),
    "size": lambda tree: (tree / "lib/a.php").write_text("longer than before\n"),
    "time": lambda tree: os.utime(tree / "lib/a.php", (1, 1)),
    "mode": lambda tree: (tree / "lib/a.php").chmod(0o600),
    "removed": lambda tree: (tree / "lib/a.php").unlink(),
    "added": lambda tree: (tree / "lib/cache.tmp").write_text("by the application\n"),
    "renamed": lambda tree: (tree / "lib/a.php").rename(tree / "lib/c.php"),
    "linked": lambda tree: os.link(tree / "lib/a.php", tree.parent.parent / "elsewhere"),
}


@pytest.mark.parametrize("drift", DRIFT)
def test_a_release_that_has_drifted_is_not_recycled(project: Project, drift: str) -> None:
    """Whatever was done to its files since: it is noticed, told, and the cache is copied."""
    DRIFT[drift](oldest(project))
    copied, notes = deploy(project)
    assert copied in ("full", "reflink")
    assert any("has changed since it was built" in note for note in notes)


def test_what_the_application_wrote_is_not_carried_over(project: Project) -> None:
    """Hooks that write into the release: it is not recycled, since they came after it was sealed."""
    settle(project, hooks={"before_switch": ["echo built > compiled"]})
    copies = [project.deploy().hosts[0].copy for _ in range(4)]
    assert copies[:2] == ["recycle", "recycle"]  # those two had no such hook
    assert "recycle" not in copies[2:] and (project.current / "compiled").exists()


@pytest.mark.parametrize(
    ("settings", "options"),
    [({"copy": "full"}, Options()), ({"strategy": "previous"}, Options()), ({}, Options(from_scratch=True))],
    ids=["full", "previous", "from scratch"],
)
def test_where_nothing_is_recycled(project: Project, settings: dict[str, str], options: Options) -> None:
    """Asked for another copy, another strategy, or a start from nothing."""
    settle(project, **settings)
    copied, _ = deploy(project, options=options)
    assert copied in ("full", "reflink")


def test_recycle_where_there_is_nothing_yet(tmp_path: Path, sshd: Sshd, host_dir: Path) -> None:
    """`copy: recycle` on the first deployments: they are copied."""
    project = Project(tmp_path / "project", sshd, host_dir)
    settle(project, copy="recycle")
    assert [deploy(project)[0] in ("full", "reflink") for _ in range(2)] == [True, True]
    assert deploy(project)[0] == "recycle"


def test_a_deployment_that_fails_after_it_has_recycled(project: Project) -> None:
    """The old release is used up, what is live stays, and the next deployment is in order."""
    settle(project, hooks={"before_switch": ["false"]})
    with untouched(project):
        assert project.deploy().exit_code == 1
    assert len(project.released) == 1
    settle(project)
    deploy(project)
    project.fab("rollback")


def test_shared_paths_of_another_time(tmp_path: Path, sshd: Sshd, host_dir: Path) -> None:
    """What was shared when the old release was built is not any more: its link goes, and nothing is written
    through it.
    """
    project = Project(tmp_path / "project", sshd, host_dir)
    settle(project, shared={"dirs": ["storage"]})
    project.deployed()
    project.deployed()
    (host_dir / "shared/storage/precious").write_text("kept\n")
    settle(project)
    project.write({"storage/own.txt": "in the release now\n"})
    assert deploy(project)[0] == "recycle"
    assert not (project.current / "storage").is_symlink()
    assert [path.name for path in (host_dir / "shared/storage").iterdir()] == ["precious"]
