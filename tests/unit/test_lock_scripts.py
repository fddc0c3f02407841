"""The lock's scripts, run in a sh of this machine: who has it, who notices that it is lost."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fabfile.errors import AnswerNotUnderstood, HostNotReady, Locked
from fabfile.on_host import lock
from fabfile.on_host.layout import Layout
from fabfile.on_host.lock import LEASE, LOST, RENEW, Lock, Owner
from fabfile.remote.host import Host
from tests.support.local import local_host, nothing, sh
from tests.support.programs import program

pytestmark = pytest.mark.usefixtures("each_shell")

ANN = Owner("ann", "her-laptop", 4711, "2026-01-01T00:00:00+00:00", "fab deploy", place="another boot")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "site"))


def taken(layout: Layout, host: Host | None = None) -> Lock:
    """The lock, taken by this process."""
    made = Lock(host or local_host(), layout, lock.me("fab deploy"))
    made.take(nothing())
    return made


def hold(layout: Layout, owner: Owner, number: int) -> Path:
    """The lock as `owner` has taken it."""
    folder = Path(layout.locks, str(number))
    folder.mkdir(parents=True)
    (folder / "owner").write_text(json.dumps(asdict(owner)))
    return folder


def guarded(one: Lock) -> tuple[int, bool]:
    """The guard's exit status, and whether what stands behind it was run."""
    done = sh(f"{one.guard}echo went on")
    assert (LOST in done.stderr.decode()) == (done.returncode != 0)
    return done.returncode, b"went on" in done.stdout


def test_the_guard_passes_for_who_holds_the_lock_and_is_a_sign_of_life(layout: Layout) -> None:
    one = taken(layout)
    os.utime(one.owner_file, (1, 1))
    assert guarded(one) == (0, True)
    assert Path(one.owner_file).stat().st_mtime > 1


@pytest.mark.parametrize("how", ["released", "gone", "newer"])
def test_the_guard_stops_who_has_lost_it(layout: Layout, how: str) -> None:
    """Each sign alone is enough: it is released (`unlock --force`), it is gone, somebody has the next one."""
    one = taken(layout)
    mine = Path(layout.locks, str(one.number))
    if how == "released":
        (mine / "released").touch()
    elif how == "gone":
        mine.rename(mine.with_name("elsewhere"))
    else:
        hold(layout, ANN, (one.number or 0) + 1)
    assert guarded(one) == (75, False)


def test_who_comes_late_looks_a_second_time(layout: Layout, tmp_path: Path) -> None:
    """We found number 6 free and were held up; meanwhile it was taken, given back and cleared away, and ann
    has number 7. Our mkdir of 6 works, and yet the lock is hers.
    """
    hold(layout, ANN, 5).joinpath("released").touch()
    seven = Path(layout.locks, "7")
    meanwhile = f"""
case "$*" in 6)
  $real {seven}; echo '{json.dumps(asdict(ANN))}' > {seven}/owner
  rm -rf {layout.locks}/5 ;;
esac"""
    host = local_host(program(tmp_path / "bin", "mkdir", meanwhile))
    with pytest.raises(Locked) as told:
        taken(layout, host)
    assert "ann@her-laptop" in told.value.why
    assert seven.is_dir() and not (seven / "released").exists()
    assert lock.holder(local_host(), layout) == (True, ANN)


def test_only_the_dead_owners_own_lock_is_released(layout: Layout) -> None:
    """Between our look at a dead owner and its release somebody else may have taken the lock."""
    hers = hold(layout, ANN, 3)
    lock.release(local_host(), layout, replace(ANN, token="0" * 24))
    assert not (hers / "released").exists()
    lock.release(local_host(), layout, ANN)
    assert (hers / "released").exists()


def test_what_is_released_is_only_ones_own(layout: Layout) -> None:
    one = taken(layout)
    hers = hold(layout, ANN, (one.number or 0) + 1)
    sh(one.returning)
    assert not (hers / "released").exists()


def test_a_lease_outlives_signs_of_life_that_come_late() -> None:
    """Two renewals in a row may fail, with the seconds that each of them may take."""
    assert LEASE >= 3 * RENEW + RENEW


# -- what stands in its place, and who may look ----------------------------------------------------------


@pytest.mark.promise("closed")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_what_is_kept_is_for_this_account_alone(layout: Layout, mask: int) -> None:
    """Whatever the account's umask: our own state is closed to all others."""
    before = os.umask(mask)
    try:
        taken(layout)
    finally:
        os.umask(before)
    own = Path(layout.own)
    for path in [own, *own.rglob("*")]:
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.promise("closed")
def test_what_an_earlier_version_has_left_open_is_closed(layout: Layout) -> None:
    one = taken(layout)
    sh(one.returning)
    record = Path(layout.records, "20260101000000/record.json")
    record.parent.mkdir(mode=0o755)
    record.write_text("{}")
    Path(layout.own).chmod(0o755)
    taken(layout)
    assert Path(layout.own).stat().st_mode & 0o077 == 0 and record.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["", "releases", "shared"])
def test_a_place_that_is_a_link_to_nothing_is_named(layout: Layout, name: str) -> None:
    """It lies on a disk that is not mounted now, say."""
    place = Path(layout.deploy_to, name)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to("/nowhere")
    with pytest.raises(HostNotReady, match=f"{place} can't be trusted") as caught:
        taken(layout)
    assert "/nowhere, which is not a directory" in caught.value.why
    assert place.is_symlink() and not Path(layout.own).exists()


@pytest.mark.promise("closed")
@pytest.mark.parametrize("name", ["lock", "releases", "jobs", "incoming", "cache"])
def test_a_link_in_the_place_of_our_state_is_refused(layout: Layout, tmp_path: Path, name: str) -> None:
    """Somebody would have us write, and remove, elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path(layout.own).mkdir(parents=True)
    Path(layout.own, name).symlink_to(elsewhere)
    with pytest.raises(HostNotReady):
        taken(layout)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.promise("damage")
@pytest.mark.parametrize("name", ["08", "x", "1 2", "99999999999999999999", "-1", "a\nb"])
def test_what_is_no_lock_of_ours_blocks_nobody(layout: Layout, name: str) -> None:
    Path(layout.locks, name).mkdir(parents=True)
    one = taken(layout)
    assert guarded(one) == (0, True)
    assert Path(layout.locks, name).is_dir(), "and is left alone"


@pytest.mark.promise("lock-answer")
@pytest.mark.parametrize(
    "said",
    [
        "",
        "taken",
        "taken\t1\t",
        "taken\tffffffffffffffffffffffff\t1 0\t",
        "/srv/site\ntaken\t{token}\t1 0\t",
        "held\t\t\t",
    ],
)
def test_an_answer_that_is_not_understood_is_no_lock(layout: Layout, said: str) -> None:
    """CDPATH made cd print, the answer began with a path, and the deployment went on without a lock."""
    one = Lock(local_host(), layout, lock.me("fab deploy"))
    with pytest.raises(AnswerNotUnderstood):
        one._understood(said.replace("{token}", one.owner.token))
    assert one.number is None


@pytest.mark.parametrize("damage", ["", "odd words", "a link", "a link to a folder"])
def test_the_hosts_own_secret_stays_and_is_mended(layout: Layout, tmp_path: Path, damage: str) -> None:
    canary = tmp_path / "canary"
    canary.write_text("theirs")
    taken(layout).number = None
    key = Path(layout.own, "key")
    first = key.read_text()
    assert re.fullmatch("[0-9a-f]{32}", first) and stat.S_IMODE(key.stat().st_mode) == 0o600
    folder = tmp_path / "folder"
    folder.mkdir()
    if damage == "a link to a folder":
        key.unlink()
        key.symlink_to(folder)
    elif damage == "a link":
        key.unlink()
        for path in (key, key.with_name("key.new")):
            path.symlink_to(canary)
    elif damage:
        key.write_text(damage)
    Path(layout.locks, "1/released").touch()
    taken(layout)
    assert (key.read_text() == first) == (not damage)
    assert re.fullmatch("[0-9a-f]{32}", key.read_text()) and not key.is_symlink()
    assert canary.read_text() == "theirs" and not list(folder.iterdir())
