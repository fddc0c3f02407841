"""A release that becomes the new one (recycling), by the script alone: only where nobody has touched it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.build import copying, proof
from fabfile.on_host import records
from fabfile.on_host.layout import Layout
from fabfile.on_host.manifest import Entry, Manifest
from fabfile.on_host.records import GOOD, Record
from tests.support.local import local_host, sh
from tests.support.programs import program

pytestmark = pytest.mark.usefixtures("each_shell")

OLD, NEW = "20260101000000", "20260102000000"


def entry(path: str, text: str) -> Entry:
    return Entry(path, "file", 0o644, len(text), 0, text)


class Site:
    """A deploy_to with a cache, and an old release that has been sealed."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(str(base / "site"))
        self.old, self.new = Path(self.layout.release(OLD)), Path(self.layout.release(NEW))
        self.cache = Path(self.layout.cache)
        for folder, text in ((self.old, "old\n"), (self.cache, "new\n")):
            folder.mkdir(parents=True)
            (folder / "a").write_text(text)
            (folder / "same").write_text("same\n")
        Path(self.layout.own).mkdir()
        seal = sh(proof.seal(str(self.old))).stdout.decode().strip()
        self.record = Record(OLD, GOOD, "", "", "", seal=seal)
        assert sh(records.write(self.layout, self.record)).returncode == 0

    def copy(self, path: Path | None = None) -> str:
        """Make the new release; the mode used."""
        was = Manifest([entry("a", "old\n"), entry("same", "same\n")])
        wanted = Manifest([entry("a", "new\n"), entry("same", "same\n")])
        old = copying.Old(self.record, was)
        recycling = copying.recycle(self.layout, old, wanted, str(self.cache), str(self.new), [])
        script = copying.script(
            local_host(), str(self.cache), str(self.new), "recycle", self.layout.own, wanted, recycling
        )
        done = sh(script, path=path)
        assert done.returncode == 0, done.stderr.decode()
        assert {p.name: p.read_text() for p in self.new.iterdir()} == {"a": "new\n", "same": "same\n"}
        return copying.mode_used(done.stdout.decode())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_release_that_nobody_has_touched_becomes_the_new_one(site: Site) -> None:
    same = (site.old / "same").stat().st_ino
    assert site.copy() == "recycle"
    assert (site.new / "same").stat().st_ino == same and not site.old.exists()


def test_a_release_that_somebody_has_touched_is_left_alone(site: Site) -> None:
    (site.old / "same").write_text("by hand\n")
    assert site.copy() != "recycle"
    assert (site.old / "same").read_text() == "by hand\n"


@pytest.mark.parametrize("says", ["1700000000.0000000000", "1700000000.1234567890"])
def test_a_file_system_without_change_times_recycles_nothing(site: Site, tmp_path: Path, says: str) -> None:
    """There a seal proves nothing. (Whole trees are still listed as they are: only the probe is frozen.)"""
    frozen = f'case "$*" in *recycle.probe*%C@*) printf %s {says}; exit 0 ;; esac'
    assert site.copy(program(tmp_path / "bin", "find", frozen)) != "recycle"
    assert (site.old / "a").read_text() == "old\n"


def test_a_release_says_failed_before_it_is_used_up(site: Site, tmp_path: Path) -> None:
    """Cut in the middle, half of it is left under either name: nobody must be offered a rollback to that."""
    record, then = Path(site.layout.state_of(OLD), "record.json"), tmp_path / "then"
    look = f'case "$*" in *{OLD}*{NEW}*) cp {record} {then} ;; esac'
    assert site.copy(program(tmp_path / "bin", "mv", look)) == "recycle"
    assert '"state": "failed"' in then.read_text()


def test_directories_are_copied_side_by_side(tmp_path: Path) -> None:
    """With one process a core, where there is enough to divide."""
    host, source, target = local_host(), tmp_path / "cache", tmp_path / "releases" / NEW
    host.learn(host.shell.run(host.asking.script).text.replace("cores\t1\n", "cores\t2\n"))
    cores = host.facts.cores * copying.PIECES
    wanted = [entry(f"d{n % cores}/e/f{n}", f"{n}\n") for n in range(10 * cores)]
    for one in wanted:
        (source / one.path).parent.mkdir(parents=True, exist_ok=True)
        (source / one.path).write_text(one.content)
    target.parent.mkdir()
    script = copying.script(host, str(source), str(target), "full", str(tmp_path), Manifest(wanted))
    assert "depth=1" in script
    done = sh(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"full\n", b"")
    assert {str(p.relative_to(target)) for p in target.rglob("f*")} == {one.path for one in wanted}
    assert target.stat().st_mode & 0o777 == 0o700
