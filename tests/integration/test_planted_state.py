"""What somebody has planted in .switchover leads nowhere, blocks nothing, and is left alone."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile import fleet
from fabfile.commands.deployment import Options
from fabfile.errors import HostNotReady, Locked, NoSuchRelease
from fabfile.on_host import lock
from fabfile.on_host.records import BAD, BUILDING, FAILED, GOOD, LIVE, READY, Record
from tests.support.site import Site, give_all, target
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd
from tests.support.trees import Tree, assert_same, tree, write

OLD = "20200101000000"
RECORD = Record(OLD, GOOD, "abc", "2020-01-01T00:00:00+00:00", "me@here", 5, "cache", before="releases/x")


class Planted:
    """A site beside a folder that must stay as it is."""

    def __init__(self, server: Sshd, folder: Path, source: Path) -> None:
        self.site = Site(server, folder / "site", {"keep_releases": 1})
        self.victim = write(folder / "victim", {"precious": "content", "below/it": "too"})
        self.own = self.site.deploy_to / ".switchover"
        self.own.mkdir(parents=True)
        self.source = source
        self.server = server
        give_all(server, folder)

    def plant(self, name: str, text: str, tree: bool = True) -> None:
        """A record with any text, in a folder of any name."""
        write(self.own / "releases" / name, {"record.json": text})
        if tree:
            write(self.site.deploy_to / "releases" / name, {"index.html": "old"})
        (self.own / "releases" / name / "record.json").chmod(0o600)
        (self.own / "releases" / name).chmod(0o700)
        give_all(self.server, self.site.deploy_to)
        give_all(self.server, self.victim)

    def all_commands(self) -> None:
        """Each command that could follow what was planted; the site works on."""
        for number in range(2):
            (self.source / "index.html").write_text(f"version {number}")
            self.site.deploy(self.source)
            assert_same(self.source, self.site.current)
        self.site.states()
        fleet.deploy(self.site.settings(self.source), [target(self.server)], options=Options(resume=True))
        fleet.rollback(self.site.settings(), [target(self.server)])
        self.site.deploy(self.source)
        assert self.site.current.parent == self.site.deploy_to / "releases"


@pytest.fixture
def planted(sshd: Sshd, host_dir: Path, tmp_path: Path) -> Planted:
    return Planted(sshd, host_dir, write(tmp_path / "source", {"index.html": "hello"}))


def seen(path: Path) -> Tree:
    return tree(path, times=True)


@pytest.mark.parametrize("state", [BUILDING, READY, LIVE, GOOD, FAILED, BAD])
def test_a_record_that_names_another_folder(planted: Planted, state: str) -> None:
    planted.plant(OLD, replace(RECORD, id="../../victim", state=state).dumps())
    before, kept = seen(planted.victim), seen(planted.own / "releases" / OLD)
    planted.all_commands()
    assert seen(planted.victim) == before
    assert seen(planted.own / "releases" / OLD) == kept
    assert (planted.site.deploy_to / "releases" / OLD / "index.html").read_text() == "old"
    with pytest.raises(AssertionError, match="There is no release"):
        planted.site.rollback(OLD)


def test_records_that_are_none_beside_names_that_are_none(planted: Planted) -> None:
    for number, text in enumerate(("null", "[]", "5", "[" * 50_000, "\x1b]0;x\a", '{"id": NaN}')):
        planted.plant(f"2020010100000{number}", text)
    for name in ("x\nrecord\t20200101000000\t{}", "..x", "$(touch x)", "a b"):
        planted.plant(name, RECORD.dumps())
    before = seen(planted.own / "releases"), seen(planted.site.deploy_to / "releases")
    planted.all_commands()
    for left, now in zip(
        before, (planted.own / "releases", planted.site.deploy_to / "releases"), strict=True
    ):
        found = seen(now)
        assert {path: found.get(path) for path in left} == left


def test_a_link_in_the_place_of_an_old_release_is_not_followed(planted: Planted) -> None:
    """Retention removes that release; what the link leads to is somebody else's."""
    planted.plant(OLD, replace(RECORD, state=FAILED).dumps(), tree=False)
    (planted.site.deploy_to / "releases").mkdir(exist_ok=True)
    (planted.site.deploy_to / "releases" / OLD).symlink_to(planted.victim)
    give_all(planted.server, planted.site.deploy_to)
    before = seen(planted.victim)
    planted.all_commands()
    assert seen(planted.victim) == before
    assert not (planted.own / "releases" / OLD).exists()


@pytest.mark.parametrize("target_of", ["../victim", "releases/../../victim", "{root}/victim/"])
def test_what_is_live_elsewhere_is_put_back_as_it_was(planted: Planted, target_of: str) -> None:
    leads = target_of.format(root=planted.site.deploy_to.parent)
    (planted.site.deploy_to / "current").symlink_to(leads)
    planted.plant("victim", RECORD.dumps(), tree=False)
    before = seen(planted.victim)
    failed = planted.site.try_deploy(planted.source, hooks={"after_switch": ["false"]})
    assert failed.exit_code == 3
    assert os.readlink(planted.site.deploy_to / "current") == leads  # noqa: PTH115  (a slash at its end)
    for strategy in ("cache", "previous"):
        planted.site.deploy(planted.source, strategy=strategy)
    assert seen(planted.victim) == before


@pytest.mark.parametrize("name", ["08", "010", "9" * 9 + "0", "9" * 40, "-1", "1e3", " 5", "x\ny"])
def test_what_is_no_lock_blocks_nobody(planted: Planted, name: str) -> None:
    (planted.own / "lock" / name).mkdir(parents=True)
    (planted.own / "lock" / "3").write_text("a file")
    (planted.own / "lock" / "2").symlink_to(planted.victim)
    give_all(planted.server, planted.site.deploy_to)
    give_all(planted.server, planted.victim)
    before = seen(planted.victim)
    planted.all_commands()
    assert (planted.own / "lock" / name).is_dir() and seen(planted.victim) == before


def test_a_time_in_the_future_is_no_sign_of_life(planted: Planted) -> None:
    held = planted.own / "lock/7"
    write(held, {"owner": json.dumps({**lock.me("fab deploy").__dict__, "place": ""})})
    give_all(planted.server, planted.site.deploy_to)
    outcome = planted.site.try_deploy(planted.source)
    assert isinstance(outcome.error, Locked)
    os.utime(held / "owner", (time.time() + 10**6,) * 2)
    planted.all_commands()


@pytest.mark.parametrize("name", ["", "lock", "releases", "incoming", "jobs", "cache"])
def test_a_link_in_the_place_of_our_own_state_is_refused(planted: Planted, name: str) -> None:
    place = planted.own / name
    if not name:
        planted.own.rmdir()
    place.symlink_to(planted.victim)
    give_all(planted.server, planted.site.deploy_to)
    give_all(planted.server, planted.victim)
    before = seen(planted.victim)
    outcome = planted.site.try_deploy(planted.source)
    assert isinstance(outcome.error, HostNotReady) and str(place).rstrip("/") in outcome.error.what
    assert outcome.exit_code == 1 and seen(planted.victim) == before


@pytest.mark.parametrize("name", ["", "releases"])
def test_another_accounts_folder_in_the_place_of_our_own_state_is_refused(
    planted: Planted, name: str
) -> None:
    if os.geteuid() != 0:
        unavailable("needs root, to give a folder to another account")
    give_all(planted.server, planted.site.deploy_to)
    (planted.own / name).mkdir(exist_ok=True)
    os.chown(planted.own / name, 65534, 65534)
    (planted.own / name).chmod(0o777)
    outcome = planted.site.try_deploy(planted.source)
    assert isinstance(outcome.error, HostNotReady)
    assert "nobody" in outcome.error.why


def test_our_own_state_is_closed_to_others(planted: Planted) -> None:
    """Also where an earlier version has left it open."""
    planted.site.deploy(planted.source)
    for path in (planted.own, *planted.own.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    planted.site.deploy(planted.source)
    assert stat.S_IMODE(planted.own.stat().st_mode) == 0o700
    for place in ("lock", "releases"):
        for path in (planted.own / place).rglob("*"):
            if not path.is_symlink() and path.name in ("record.json", "owner", "lock", "releases"):
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_damaged_record_is_told_for_a_rollback(planted: Planted) -> None:
    planted.site.deploy(planted.source)
    planted.plant(OLD, "null")
    outcome = fleet.rollback(planted.site.settings(), [target(planted.server)], to=OLD)
    assert isinstance(outcome.error, NoSuchRelease)
