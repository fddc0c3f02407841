"""Nothing outside the tree that is being built is written or removed; and what stands in the way is named."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fabfile import fleet
from fabfile.events import Event, Note
from tests.support.accounts import account
from tests.support.site import Site, give_all, good, target
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd
from tests.support.trees import assert_same, tree, write

pytestmark = pytest.mark.timeout(120)
STRATEGIES = ["cache", "previous"]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@pytest.fixture
def site(sshd: Sshd, host_dir: Path) -> Site:
    """A fresh deploy_to."""
    return Site(sshd, host_dir / "site", {})


@pytest.fixture
def canary(sshd: Sshd, host_dir: Path) -> Path:
    """Another site's folder, of the same account, with names that the source has, too."""
    folder = write(host_dir / "other", {"x": "theirs", "y": "theirs", "in/z": "theirs", "in/w": "theirs"})
    give_all(sshd, folder)
    return folder


def state(folder: Path) -> dict[bytes, object]:
    """All that a write, a removal or a chmod would change."""
    info = folder.stat()
    return {b".": (info.st_mode, info.st_mtime_ns), **tree(folder, times=True)}


def deploy(site: Site, source: Path, **keys: Any) -> tuple[fleet.Outcome, list[str]]:
    """A deployment, and what was noted."""
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    outcome = fleet.deploy(site.settings(source, **keys), [target(site.server)], listener=listen)
    return outcome, notes


def replace(path: Path, to: Path | str, site: Site) -> None:
    """Put a link in the place of what is at `path`."""
    if path.exists():
        path.rename(path.with_name(path.name + ".aside"))
    path.symlink_to(to)
    assert isinstance(site.server, Sshd)
    site.server.give(path)


BEFORE = {"a": "1", "d/x": "1", "d/y": "1", "d/in/z": "1", "d/in/w": "1", "gone/x": "1", "gone/in/z": "1"}
AFTER = {"a": "2", "d/x": "2", "d/new": "2", "d/in/z": "2", "d/in/more/q": "2", "d/fresh/q": "2"}


@each_strategy
@pytest.mark.parametrize("where", ["d", "d/in"])
def test_a_link_in_the_place_of_a_folder(
    site: Site, canary: Path, tmp_path: Path, strategy: str, where: str
) -> None:
    """In the live release, or in the cache; the next deployment changes, adds and deletes below it."""
    site.keys.update(strategy=strategy)
    site.deploy(write(tmp_path / "v1", BEFORE))
    root = site.cache if strategy == "cache" else site.current.resolve()
    leads = canary if where == "d" else canary / "in"
    replace(root / where, leads, site)
    replace(root / "gone", canary, site)
    before, second = state(canary), write(tmp_path / "v2", AFTER)
    outcome, notes = deploy(site, second)
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert state(canary) == before
    if strategy == "cache":
        found = {path for path in tree(site.current) if b".aside" not in path}
        assert found - {b"REVISION"} == tree(second).keys()
        return
    assert (site.current / where).readlink() == leads
    unserved = outcome.hosts[0].unserved
    assert "d/in/z" in unserved and all(path.startswith(where) for path in unserved)
    assert any("the live release has links" in note and where in note for note in notes)
    assert (site.current / "a").read_text() == "2"


@each_strategy
def test_a_shared_path_below_a_link(site: Site, canary: Path, tmp_path: Path, strategy: str) -> None:
    """`d` became a link by hand, and `d/up` is shared: refused by name, or mended."""
    site.keys.update(strategy=strategy, shared={"dirs": ["d/up"]})
    source = write(tmp_path / "v", BEFORE)
    site.deploy(source)
    root = site.cache if strategy == "cache" else site.current.resolve()
    replace(root / "d", canary, site)
    live, before = site.current, state(canary)
    outcome, _ = deploy(site, source)
    assert state(canary) == before
    if strategy == "cache":
        assert outcome.ok and (site.current / "d/up").resolve() == (site.shared / "d/up").resolve()
    else:
        assert not outcome.ok and outcome.error and "d is a link" in outcome.error.why
        assert site.current == live


@pytest.mark.parametrize(
    "name",
    ["incoming", "cache/manifest.new", "cache/touched.new", "lock", "releases", "jobs", "reflink.probe",
     "recycle.probe", "cache"],
)  # fmt: skip
def test_a_link_among_our_own_state(site: Site, canary: Path, tmp_path: Path, name: str) -> None:
    site.deploy(write(tmp_path / "v1", BEFORE))
    replace(site.deploy_to / ".switchover" / name, canary if "." not in name else canary / "x", site)
    before = state(canary)
    deploy(site, write(tmp_path / "v2", AFTER))
    assert state(canary) == before


@pytest.mark.parametrize("transfer", ["stream", "rsync", "sftp"])
@pytest.mark.parametrize("where", ["", "d", "d/in", "d/x"])
def test_a_link_in_the_staging_place(
    site: Site, canary: Path, tmp_path: Path, transfer: str, where: str
) -> None:
    """Where a cut upload of this source would have left its files."""
    site.keys.update(transfer=transfer)
    site.deploy(write(tmp_path / "v1", {"a": "1"}))
    second = write(tmp_path / "v2", BEFORE)
    named = fleet.source.scan(second, [], [], None).tree
    staging = site.deploy_to / ".switchover/incoming" / named
    place = staging / where if where else staging
    place.parent.mkdir(parents=True, exist_ok=True)
    give_all(site.server, site.deploy_to / ".switchover/incoming")
    replace(place, canary / "x" if where == "d/x" else canary, site)
    before = state(canary)
    outcome, _ = deploy(site, second)
    assert outcome.ok, outcome.error and outcome.error.why
    assert state(canary) == before
    assert_same(second, site.current)


def test_a_cache_that_is_a_link(site: Site, canary: Path, tmp_path: Path) -> None:
    """Whose folder that is can't be known: refused, with what to do, and nothing is changed."""
    site.deploy(write(tmp_path / "v1", BEFORE))
    live = site.current
    replace(site.cache, canary, site)
    before = state(canary)
    outcome, _ = deploy(site, write(tmp_path / "v2", AFTER))
    assert outcome.exit_code == 1 and outcome.error and "cache is a link" in outcome.error.what
    assert "rm " in outcome.error.hint and outcome.hosts[0].failed_in == "check"
    assert state(canary) == before and site.current == live


@each_strategy
@pytest.mark.parametrize("moved", ["releases", "shared", "both", "deploy_to"])
def test_on_another_disk(site: Site, tmp_path: Path, strategy: str, moved: str) -> None:
    """By symlink: each shared link is followed to the right place."""
    site.keys.update(strategy=strategy, shared={"dirs": ["storage", "d/up"], "files": [".env"]})
    disk = site.deploy_to.parent / "disk/deep"
    for name in ("releases", "shared"):
        if moved in (name, "both"):
            write(disk / name, {})
            write(site.deploy_to, {})
            (site.deploy_to / name).symlink_to(disk / name)
    if moved == "deploy_to":
        write(disk / "root", {})
        site.deploy_to.symlink_to(disk / "root")
    give_all(site.server, site.deploy_to.parent)
    for version in ({**BEFORE, ".env": "seed"}, {**AFTER, ".env": "other"}, {**BEFORE, ".env": "x"}):
        source = write(tmp_path / str(len(list(tmp_path.iterdir()))), version)
        site.deploy(source)
        assert_same(source, site.current, ["storage", "d/up", ".env"])
        for path in ("storage", "d/up", ".env"):
            assert (site.current / path).is_symlink()
            assert not (site.current / path).readlink().is_absolute()
            assert (site.current / path).resolve() == (site.shared / path).resolve()
        assert (site.current / ".env").read_text() == "seed"
    site.rollback()


@each_strategy
def test_a_releases_folder_that_somebody_else_has_linked(
    site: Site, canary: Path, tmp_path: Path, strategy: str
) -> None:
    if os.geteuid() != 0:
        unavailable("another account is needed")
    write(site.deploy_to, {})
    give_all(site.server, site.deploy_to)
    (site.deploy_to / "releases").symlink_to(canary)
    os.chown(site.deploy_to / "releases", 65534, 65534, follow_symlinks=False)
    before = state(canary)
    outcome, _ = deploy(site, write(tmp_path / "v1", BEFORE), strategy=strategy)
    assert not outcome.ok and outcome.error and "another account" in outcome.error.why
    assert state(canary) == before


# -- damage in the cache -----------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    path.unlink()
    write(path, {"by/hand": "1"})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a folder in a file's place": _folder,
    "not readable": lambda path: path.chmod(0),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("changed", [True, False])
def test_damage_in_the_cache_is_mended_by_the_deployment_that_sees_it(
    site: Site, tmp_path: Path, damage: str, changed: bool
) -> None:
    """Two of them: one that the difference meets, one that only a whole copy meets."""
    version = write(tmp_path / "v", BEFORE)
    site.deploy(version)
    DAMAGE[damage](site.cache / "d/x")
    DAMAGE[damage](site.cache / "gone/in/z")
    give_all(site.server, site.cache)
    if changed:
        write(version, {"d/x": "changed"})
    outcome, notes = deploy(site, version, copy="full")
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert_same(version, site.current)
    assert_same(version, site.cache)
    assert outcome.hosts[0].failed_in == ""
    assert not any("after being sent again" in note for note in notes)


def test_what_a_recycled_copy_does_not_meet(site: Site, tmp_path: Path) -> None:
    """It takes one damaged file from the cache, and shows nothing of the other: both are mended."""
    version = write(tmp_path / "v", BEFORE)
    site.keys.update(keep_releases=2)
    for n in range(3):
        write(version, {"a": str(n)})
        site.deploy(version)
    for path in ("a", "d/in/w"):
        (site.cache / path).write_text("damaged")
    give_all(site.server, site.cache)
    outcome, notes = deploy(site, version)
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert any("'a', 'd/in/w'" in note for note in notes)
    assert_same(version, site.current)
    assert_same(version, site.cache)


def test_verify_names_all_drift_though_a_file_can_not_be_read(site: Site, tmp_path: Path) -> None:
    version = write(tmp_path / "v", BEFORE)
    site.deploy(version)
    (site.cache / "d/x").chmod(0)
    (site.cache / "d/in/z").write_text("other")
    (site.cache / "a").unlink()
    give_all(site.server, site.cache)
    drift = site.cache_sync(version, verify=True).drift
    assert drift == {"missing": ["a"], "altered": ["d/in/z", "d/x"], "extra": []}
    site.cache_sync(version, repair=True)
    assert_same(version, site.cache)


# -- what is shared -----------------------------------------------------------------------------------------


@each_strategy
def test_what_lies_below_a_shared_folder_and_is_not_served_is_named(
    site: Site, tmp_path: Path, strategy: str
) -> None:
    site.keys.update(strategy=strategy, shared={"dirs": ["storage"], "files": [".env", "db.sqlite3"]})
    version = write(tmp_path / "v", {"a": "1", "storage/x": "1", ".env": "K=dev", "db.sqlite3": "dev"})
    plan = good(fleet.deploy(site.settings(version), [target(site.server)], plan=True))
    assert plan.seeds == [".env", "db.sqlite3", "storage/x"] and plan.unserved == []
    outcome, notes = deploy(site, version)
    assert outcome.hosts[0].seeds == [".env", "db.sqlite3", "storage/x"]
    assert any("seeded" in note and "db.sqlite3" in note for note in notes)
    write(version, {"storage/later": "2", "storage/deep/er": "2"})
    plan = good(fleet.deploy(site.settings(version), [target(site.server)], plan=True))
    outcome, notes = deploy(site, version)
    for result in (plan, outcome.hosts[0]):
        assert (result.seeds, result.unserved) == ([], ["storage/deep/er", "storage/later"])
    assert any("not served" in note and "storage/later" in note for note in notes)


@each_strategy
def test_shared_paths_that_become_wider(site: Site, tmp_path: Path, strategy: str) -> None:
    """public/uploads was shared, public is now: what the source and the site had in it is served still."""
    version = write(tmp_path / "v", {"a": "1", "public/app.js": "1", "public/uploads/u": "seed"})
    site.deploy(version, strategy=strategy, shared={"dirs": ["public/uploads"]})
    write(site.current, {"public/uploads/user": "user's", "public/by-hand": "hand"})
    give_all(site.server, site.deploy_to)
    outcome, _ = deploy(site, version, strategy=strategy, shared={"dirs": ["public"]})
    assert outcome.ok and outcome.hosts[0].unserved == []
    found = tree(site.current / "public/")
    assert found.keys() == {b"app.js", b"uploads", b"uploads/u", b"uploads/user", b"by-hand"}


@each_strategy
def test_what_users_have_put_into_a_folder_that_becomes_shared(
    site: Site, tmp_path: Path, strategy: str
) -> None:
    version = write(tmp_path / "v", {"a": "1", "storage/own": "1", "storage/both": "1", "data.db": "1"})
    site.deploy(version, strategy=strategy)
    write(site.current, {"storage/up/user": "user's", "storage/both": "changed", "data.db": "grown"})
    write(site.current, {"made/by/users": "only there"})
    give_all(site.server, site.deploy_to)
    before = tree(site.current)
    write(version, {"storage/new": "2"})
    live = site.current
    keys = {"strategy": strategy, "shared": {"dirs": ["storage", "made"], "files": ["data.db"]}}
    outcome, notes = deploy(site, version, **keys)
    assert outcome.ok, outcome.error and outcome.error.why
    assert {p: e[-2] for p, e in tree(site.shared).items() if e[0] == "file"} == {
        b"storage/own": b"1", b"storage/both": b"changed", b"storage/up/user": b"user's",
        b"storage/new": b"2", b"data.db": b"grown", b"made/by/users": b"only there",
    }  # fmt: skip
    assert tree(live) == before
    assert outcome.hosts[0].unserved == ["data.db", "storage/both"]
    assert any("what the live release had" in note for note in notes)


# -- who can read it ----------------------------------------------------------------------------------------


@each_strategy
@pytest.mark.parametrize("umask", ["077", "027"])
def test_another_account_can_read_the_site(
    clean_environment: None, sshd_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    strategy: str, umask: str,
) -> None:  # fmt: skip
    """Whatever the umask of the account that deploys."""
    if os.geteuid() != 0:
        unavailable("another account is needed")
    monkeypatch.delenv("SHLVL", raising=False)  # else bash takes itself for a shell in a shell
    with account() as user, Sshd(user=user) as server:
        Path(pwd.getpwnam(user).pw_dir, ".bashrc").write_text(f"umask {umask}\n")
        site = Site(server, server.new_dir() / "site", {})
        source = write(tmp_path / "v", {"a": "1", "d/x": "1", "storage/s": "1", "up/load/u": "1"})
        keys = {"strategy": strategy, "shared": {"dirs": ["storage", "up/load", "deep/er/made"]}}
        for n in range(2):
            write(source, {"d/x": str(n), f"d{n}/new/y": "1"})
            outcome, _ = deploy(site, source, **keys)
            assert outcome.ok, outcome.error and outcome.error.why
            names = ["a", "d/x", "REVISION", "storage/s", "up/load/u", "d0/new/y", "deep/er/made"]
            reads = [["test", "-r", str(site.deploy_to / "current" / name)] for name in names]
            for read in reads:
                done = subprocess.run(read, user=65534, group=65534, extra_groups=[])
                assert done.returncode == 0, read
        assert stat.S_IMODE((site.deploy_to / ".switchover").stat().st_mode) == 0o700


def test_the_release_has_the_mode_of_the_source(site: Site, tmp_path: Path) -> None:
    source = write(tmp_path / "v", {"a": "1"})
    for mode in (0o750, 0o711, 0o755):
        source.chmod(mode)
        site.deploy(source)
        assert stat.S_IMODE(site.current.stat().st_mode) == mode
    source.chmod(0o700)  # as mktemp makes it, though its file may be read by all
    site.deploy(source)
    assert stat.S_IMODE(site.current.stat().st_mode) == 0o755
