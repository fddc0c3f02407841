"""Retention: which releases go, by examples that a person can read, and how each of them goes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.on_host import records, retention
from fabfile.on_host.layout import Layout
from fabfile.on_host.records import BAD, BUILDING, FAILED, GOOD, LIVE, READY, Record, to_remove
from tests.support.local import local_host, sh
from tests.support.programs import program


def history(*states: str) -> dict[str, Record]:
    """Releases "1", "2" … as 20260101000001, … with these states, oldest first."""
    made = [Record(f"2026010100000{n}", state, "", "", "") for n, state in enumerate(states, 1)]
    return {record.id: record for record in made}


def doomed(found: dict[str, Record], keep: int, live: int, before: int | None) -> list[int]:
    """The numbers of what is removed."""
    ids = list(found)
    gone = to_remove(found, keep, ids[live - 1], ids[before - 1] if before else None)
    return sorted(ids.index(record.id) + 1 for record in gone)


@pytest.mark.parametrize(
    ("states", "keep", "live", "before", "gone"),
    [
        ([GOOD, GOOD, GOOD, LIVE], 3, 4, 3, [1]),
        ([GOOD, GOOD, GOOD, LIVE], 1, 4, 3, [1, 2]),  # the way back stays, whatever keep_releases says
        ([GOOD, LIVE, GOOD, GOOD], 1, 2, 4, [1, 3]),  # rolled back: what is live stays though it is old
        ([GOOD, FAILED, BAD, LIVE], 5, 4, 1, [2, 3]),  # what failed does not count, and goes
        ([GOOD, BUILDING, READY, LIVE], 5, 4, 1, [2, 3]),  # so does what was interrupted
        ([GOOD, FAILED, FAILED, LIVE], 2, 4, 1, [2, 3]),  # and takes nobody's place
        ([LIVE], 1, 1, None, []),
        ([GOOD, BAD, LIVE], 5, 3, 2, []),  # what was live before stays, to be looked at
    ],
)
def test_which_releases_go(
    states: list[str], keep: int, live: int, before: int | None, gone: list[int]
) -> None:
    assert doomed(history(*states), keep, live, before) == gone


class Site:
    """A deploy_to with one release in it, and its record."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(str(base / "site"))
        self.record = Record("20260101000001", GOOD, "", "", "")
        self.tree = Path(self.layout.release(self.record.id))
        (self.tree / "d").mkdir(parents=True)
        (self.tree / "d/file").write_text("x\n")
        assert sh(records.write(self.layout, self.record)).returncode == 0

    @property
    def state(self) -> str | None:
        path = Path(self.layout.state_of(self.record.id), "record.json")
        return json.loads(path.read_text())["state"] if path.exists() else None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_release_goes_with_its_record(site: Site) -> None:
    (site.tree / "d").chmod(0o500)  # not even its owner may write there
    assert sh(retention.removing(site.layout, [site.record]).script).returncode == 0
    assert not site.tree.exists() and site.state is None


def test_a_release_goes_though_its_owner_may_not_write_to_it(site: Site, tmp_path: Path) -> None:
    """A vendor folder of mode 0555: rm fails for a plain account (root would not notice)."""
    (site.tree / "d").chmod(0o555)
    closed = f"find {site.tree} -type d ! -perm -200 2>/dev/null | grep -q ."
    tools = program(tmp_path / "bin", "rm", f'{closed} && case "$*" in *{site.record.id}*) exit 1 ;; esac')
    assert sh(retention.removing(site.layout, [site.record]).script, path=tools).returncode == 0
    assert not site.tree.exists() and site.state is None


def test_a_release_says_failed_before_its_tree_goes(site: Site, tmp_path: Path) -> None:
    """Cut in the middle, half a tree is left: nobody must be offered a rollback to that."""
    cut = program(tmp_path / "bin", "rm", f"$real {site.tree}/d/file; kill -9 $PPID; exit 1")
    assert sh(retention.removing(site.layout, [site.record]).script, path=cut).returncode != 0
    assert site.tree.exists() and site.state == FAILED


def test_a_release_that_can_not_be_removed_keeps_its_record_and_says_why(site: Site, tmp_path: Path) -> None:
    refused = program(tmp_path / "bin", "rm", "echo 'rm: d: Operation not permitted' >&2; exit 1")
    host = local_host(refused)
    part = retention.removing(site.layout, [site.record])
    assert not part.needed, "it must never fail what is live"
    (said,) = host.shell.batch([part])
    assert said.status != 0 and site.state == FAILED
    left = retention.left(host, site.layout, [site.record], said)
    assert "Operation not permitted" in left[site.record.id]


def test_what_is_in_the_way_of_one_is_in_the_way_of_no_other(site: Site, tmp_path: Path) -> None:
    stuck = replace(site.record, id="20260101000000")
    assert sh(records.write(site.layout, stuck)).returncode == 0
    Path(site.layout.release(stuck.id)).mkdir()
    refused = program(tmp_path / "bin", "rm", f'case "$*" in *{stuck.id}*) echo no >&2; exit 1 ;; esac')
    host, doomed = local_host(refused), [stuck, site.record]
    (said,) = host.shell.batch([retention.removing(site.layout, doomed)])
    assert retention.left(host, site.layout, doomed, said).keys() == {stuck.id}
    assert not site.tree.exists() and site.state is None and Path(site.layout.release(stuck.id)).exists()


def test_a_thousand_releases_that_failed_take_a_handful_of_processes(site: Site, tmp_path: Path) -> None:
    doomed = [replace(site.record, id=f"20250101{n:06d}", state=FAILED) for n in range(1000)]
    for record in doomed:
        for path in (site.layout.release(record.id), site.layout.state_of(record.id)):
            Path(path).mkdir(parents=True)
    counted = program(tmp_path / "bin", "rm", f"echo >> {tmp_path}/ran")
    script = retention.removing(site.layout, doomed).script
    assert sh(script, path=counted).returncode == 0 and len(script) < 30_000
    assert len((tmp_path / "ran").read_text()) <= 2
    assert os.listdir(site.layout.releases) == [site.record.id] == os.listdir(site.layout.records)  # noqa: PTH208
