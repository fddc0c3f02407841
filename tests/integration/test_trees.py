"""What arrives: trees by both strategies, every transfer and every copy mode, compared file by file."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabfile import fleet, settings
from fabfile.commands.deployment import Options
from fabfile.demo.server import Server
from fabfile.errors import HostNotReady, SourceError
from fabfile.fleet import Target
from fabfile.on_host.layout import sort_key
from tests.support.django import Releases, fetch_django
from tests.support.programs import public_folder
from tests.support.site import Site, assert_tidy, give_all, target
from tests.support.skipping import unavailable
from tests.support.sshd import Serve, Sshd
from tests.support.trees import Tree, assert_same, fixed_tree, tree, write

REPOSITORY = Path(__file__).resolve().parents[2]
STRATEGIES = ["cache", "previous"]
TRANSFERS = ["stream", "rsync", "sftp"]
TOOL_TIMEOUT = 60.0  # seconds for one program on this machine

pytestmark = pytest.mark.timeout(300)  # the first to come downloads Django

each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
each_transfer = pytest.mark.parametrize("transfer", TRANSFERS)


@pytest.fixture(scope="session")
def django() -> Releases:
    """Two releases of Django, whole."""
    return fetch_django()


@pytest.fixture(scope="session")
def docs(django: Releases) -> Releases:
    """A tenth of them, in which the second adds, changes and (on the way back) deletes files."""
    return Releases(django.old / "docs", django.new / "docs")


@pytest.fixture
def site(sshd: Sshd, host_dir: Path) -> Site:
    """A fresh deploy_to on the real sshd."""
    return Site(sshd, host_dir / "site", {})


@pytest.fixture
def roomy_site(sshd: Sshd, site: Site) -> Iterator[Site]:
    """The same in memory, where that has room: 20,000 files take a busy disk a minute."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 1 << 30:
        yield site
        return
    with tempfile.TemporaryDirectory(prefix="switchover-", dir=memory) as folder:
        Path(folder).chmod(0o755)
        yield Site(sshd, sshd.give(Path(folder)) / "site", {})


def need(program: str) -> None:
    """Skip where this machine, which is also the host, lacks a program."""
    if shutil.which(program) is None:
        if os.environ.get("CI") and program in ("rsync", "git"):
            pytest.fail(f"{program} is not installed", pytrace=False)
        unavailable(f"{program} is not installed")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=TOOL_TIMEOUT, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
    return done.stdout


def changes(old: Tree, new: Tree) -> tuple[int, int, int]:
    """files_uploaded, bytes_uploaded, files_deleted as they must be, from the trees themselves."""
    sent = [entry for path, entry in new.items() if entry[0] != "dir" and old.get(path) != entry]
    size = sum(len(entry[2]) for entry in sent if entry[0] == "file")
    return len(sent), size, len([p for p, entry in old.items() if entry[0] != "dir" and p not in new])


def counted(result: fleet.HostResult) -> tuple[int, int, int]:
    return result.files_uploaded, result.bytes_uploaded, result.files_deleted


def there_and_back(site: Site, old: Path, new: Path) -> list[fleet.HostResult]:
    """Deploy old, then new over it, roll back; compare each time, also what is not live."""
    first = site.deploy(old)
    assert first.previous is None
    assert_same(old, site.current, times=True)
    assert counted(first) == changes({}, fixed_tree(old))
    assert_tidy(site)

    second = site.deploy(new)
    assert second.previous == first.release
    assert second.release != first.release
    assert site.current.name == second.release
    assert_same(new, site.current)
    assert counted(second) == changes(fixed_tree(old), fixed_tree(new))
    assert_tidy(site)

    back = site.rollback()
    assert (back.release, back.previous) == (first.release, second.release)
    assert site.current.name == first.release
    assert_same(old, site.current, times=True)  # nor has the second deployment touched it
    assert_tidy(site)
    assert site.states() == {first.release: "live", second.release: "good"}
    return [first, second]


# -- a real project ------------------------------------------------------------------------------------


@each_transfer
@each_strategy
def test_django_arrives_whole_and_goes_back(
    roomy_site: Site, django: Releases, strategy: str, transfer: str
) -> None:
    if transfer == "rsync":
        need("rsync")
    roomy_site.keys.update(strategy=strategy, transfer=transfer)
    results = there_and_back(roomy_site, django.old, django.new)
    assert [r.transfer for r in results] == [transfer, transfer]
    assert [r.strategy for r in results] == [strategy, strategy]
    assert results[0].files_uploaded > 6000
    assert results[1].files_uploaded < 100


@pytest.mark.parametrize("copy", ["full", "hardlink", "auto"])
@each_strategy
def test_every_copy_mode(site: Site, docs: Releases, strategy: str, copy: str) -> None:
    site.keys.update(strategy=strategy, copy=copy)
    _, second = there_and_back(site, docs.old, docs.new)
    assert second.copy == {"full": "full", "hardlink": "hardlink"}.get(
        copy, "reflink" if has_reflink(site.deploy_to) else "full"
    )
    releases = list((site.deploy_to / "releases").iterdir())
    same = (releases[0] / "README.rst").stat().st_ino == (releases[1] / "README.rst").stat().st_ino
    assert same == (copy == "hardlink")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core copies with one process")
@pytest.mark.parametrize("folder", ["", "deep/down/here/"])
def test_several_processes_copy_as_one_would(site: Site, tmp_path: Path, folder: str) -> None:
    """Odd names, links, empty folders, modes, and the times of folders at any depth."""
    names = ["-x", "with space", "new\nline", "ünï", "*", "plain"]
    files: dict[str, str | bytes | None] = {
        f"{folder}{top}{n}/{inner}": f"{n}\n"
        for top in names
        for n in range(5)
        for inner in [*names, "in/it"]
    }
    source = write(tmp_path / "source", {**files, "link": "-> nowhere", f"{folder}empty/empty": None})
    (source / folder / "plain1").chmod(0o750)
    site.deploy(source, copy="full")
    folders = [path.relative_to(site.cache) for path in site.cache.rglob("*") if path.is_dir()]
    for age, path in enumerate(folders):
        os.utime(site.cache / path, (10**9 + age, 10**9 + age))
    site.deploy(source, copy="full")
    release = site.current.resolve()
    assert_same(source, release, times=True)
    assert len(folders) > 60
    for age, path in enumerate(folders):
        assert (release / path).stat().st_mtime == 10**9 + age, path


@each_strategy
def test_the_way_back_deletes_what_the_older_one_has_not(site: Site, docs: Releases, strategy: str) -> None:
    site.keys.update(strategy=strategy)
    site.deploy(docs.new)
    result = site.deploy(docs.old)
    assert result.files_deleted == 3
    assert counted(result) == changes(tree(docs.new), tree(docs.old))
    assert_same(docs.old, site.current)
    if strategy == "cache":
        assert_same(docs.old, site.cache)
    for _ in range(2):  # the second starts from what a deployment without changes has left
        assert counted(site.deploy(docs.old)) == (0, 0, 0)
        assert_same(docs.old, site.current)
    assert_tidy(site)


@each_strategy
def test_the_embedded_server_does_as_well(
    embedded: Server, tmp_path: Path, docs: Releases, strategy: str
) -> None:
    site = Site(embedded, tmp_path / "site", {"strategy": strategy})
    there_and_back(site, docs.old, docs.new)


# -- reflink -------------------------------------------------------------------------------------------


def has_reflink(folder: Path) -> bool:
    probe = folder / "reflink-probe"
    probe.write_bytes(b"x" * 4096)
    clone = folder / "reflink-clone"
    done = subprocess.run(["cp", "--reflink=always", probe, clone], capture_output=True, timeout=TOOL_TIMEOUT)
    probe.unlink()
    clone.unlink(missing_ok=True)
    return done.returncode == 0


@pytest.fixture
def reflink_dir(sshd: Sshd) -> Iterator[Path]:
    """A directory on an XFS file system that can share blocks, on a loop device."""
    if os.geteuid() != 0:
        unavailable("mounting a file system with reflink needs root")
    need("mkfs.xfs")
    folder = Path(tempfile.mkdtemp(prefix="switchover-xfs-"))
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(512 << 20)
        run("mkfs.xfs", "-q", "-m", "reflink=1", image)
        mounted = subprocess.run(
            ["mount", "-o", "loop", image, mount], capture_output=True, text=True, timeout=TOOL_TIMEOUT
        )
        if mounted.returncode:
            unavailable(f"this machine mounts no loop device: {mounted.stderr.strip()}")
        folder.chmod(0o755)
        yield sshd.give(mount)
    finally:
        if mount.is_mount():
            for options in ([], ["-l"]):
                if not subprocess.run(["umount", *options, mount], timeout=TOOL_TIMEOUT).returncode:
                    break
        if not mount.is_mount():
            shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.parametrize("copy", ["auto", "reflink"])
def test_reflink_for_real(sshd: Sshd, reflink_dir: Path, docs: Releases, copy: str) -> None:
    for strategy in STRATEGIES:
        site = Site(sshd, reflink_dir / strategy, {"strategy": strategy, "copy": copy})
        _, second = there_and_back(site, docs.old, docs.new)
        assert second.copy == "reflink"


def test_reflink_is_refused_where_there_is_none(site: Site, tmp_path: Path) -> None:
    version = write(tmp_path / "v1", {"a.txt": "1"})
    site.deploy(version)
    live = site.current
    if has_reflink(site.deploy_to):
        pytest.skip("this file system has reflink")
    write(version, {"b.txt": "2"})
    outcome = site.try_deploy(version, copy="reflink")
    assert isinstance(outcome.error, HostNotReady)
    assert "copy: reflink" in outcome.error.what
    assert outcome.exit_code == 1
    assert site.current == live
    assert_tidy(site)
    site.deploy(version)
    assert_same(version, site.current)


# -- modes, links, kinds -------------------------------------------------------------------------------


@each_transfer
@each_strategy
def test_modes_and_kinds_change_as_the_source_does(
    site: Site, tmp_path: Path, strategy: str, transfer: str
) -> None:
    if transfer == "rsync":
        need("rsync")
    site.keys.update(strategy=strategy, transfer=transfer)
    versions = [tmp_path / f"v{n}" for n in range(4)]

    # x: a link, a file, a directory, a link again; y goes the other way round; and so on.
    write(versions[0], {"x": "-> a", "y/in/file": "y", "only/here/a": "1", "only/b": "2", "gone": ""})
    write(versions[0], {"a": "a", "bin/run": "#!/bin/sh\n", "dangling": "-> no/such", "to-dir": "-> bin"})
    write(versions[1], {"x": "file", "y": "-> a", "a": "a", "bin/run": "#!/bin/sh\n", "empty": None})
    write(versions[2], {"x/deep/er": "1", "y": "now a file", "a": "a", "bin/run": "#!/bin/sh\n"})
    write(versions[2], {"to-dir/a": "no link any more", "empty": "no directory any more"})
    write(versions[3], {"x": "-> bin/../a", "y/in": "y", "a": "a", "bin/run": "#!/bin/sh\nexit 0\n"})
    modes: list[dict[str, int]] = [
        {"a": 0o644, "bin/run": 0o755, "bin": 0o755, "gone": 0o600},
        {"a": 0o600, "bin/run": 0o4755, "bin": 0o750, "empty": 0o711},
        {"a": 0o444, "bin/run": 0o644, "bin": 0o555},
        {"a": 0o2755, "bin/run": 0o4711, "bin": 0o777},
    ]
    try:
        for version, wanted in zip(versions, modes, strict=True):
            for name, mode in wanted.items():
                (version / name).chmod(mode)
            site.deploy(version)
            assert_same(version, site.current)
        assert_tidy(site)
        releases = sorted((site.deploy_to / "releases").iterdir(), key=lambda path: sort_key(path.name))
        for version, release in zip(versions, releases, strict=True):
            assert_same(version, release)
    finally:
        (versions[2] / "bin").chmod(0o755)  # so that the folder can be removed


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_only_the_mode_changed(site: Site, tmp_path: Path, transfer: str) -> None:
    """A hardlinked file must not be changed in the release that is live."""
    if transfer == "rsync":
        need("rsync")
    version = write(tmp_path / "v", {"a": "one", "b": "two", "d/c": "three"})
    site.keys.update(transfer=transfer, copy="hardlink")
    site.deploy(version)
    before, first = tree(site.current), site.current
    (version / "a").chmod(0o700)
    (version / "d").chmod(0o700)
    result = site.deploy(version)
    assert counted(result) == (1, 3, 0)
    assert_same(version, site.current)
    assert tree(first) == before


def test_a_release_that_is_removed_changes_no_other(site: Site, tmp_path: Path) -> None:
    """Hardlinked files are one inode: whatever it takes to remove one tree must not reach them."""
    version = write(tmp_path / "v", {"d/secret": "one", "a": "1"})
    (version / "d/secret").chmod(0o400)
    site.keys.update(copy="hardlink", keep_releases=1, hooks={"before_switch": ["chmod 0500 d"]})
    for n in range(3):
        write(version, {"a": str(n)})
        site.deploy(version)
    assert len(list((site.deploy_to / "releases").iterdir())) == 2
    for release in (site.deploy_to / "releases").iterdir():
        assert (release / "d/secret").stat().st_mode & 0o777 == 0o400


# -- hand edits ----------------------------------------------------------------------------------------


@each_strategy
def test_hand_edits_of_the_live_release(site: Site, tmp_path: Path, strategy: str) -> None:
    site.keys.update(strategy=strategy)
    first = write(tmp_path / "v1", {"edited": "as released", "both": "v1", "kept": "1", "dir/file": "1"})
    site.deploy(first)
    write(
        site.current,
        {"edited": "changed by hand, and longer", "both": "hand", "added": "new", "dir/added": "new"},
    )
    give_all(site.server, site.current)
    edited = tree(site.current, ["REVISION"])

    second = write(tmp_path / "v2", {"edited": "as released", "both": "v2!!", "kept": "22", "dir/file": "1"})
    site.deploy(second)

    now = tree(site.current, ["REVISION"])
    if strategy == "cache":
        assert now == tree(second)
        return
    for path in (b"edited", b"added", b"dir/added"):
        assert now[path][2] == edited[path][2], path
    for path in (b"both", b"kept"):
        assert now[path] == tree(second)[path]
    assert now.keys() == edited.keys()


def test_previous_starts_from_a_release_that_is_not_ours(site: Site, tmp_path: Path) -> None:
    """What stood there before Switchover came is kept beside the source."""
    old = write(site.deploy_to / "releases/by-hand", {"a": "old", "data/own.db": "precious", "x/y": "dir"})
    (site.deploy_to / "current").symlink_to("releases/by-hand")
    give_all(site.server, site.deploy_to)
    version = write(tmp_path / "v", {"a": "new", "x": "a file now", "b": "-> a"})
    site.deploy(version, strategy="previous")
    assert tree(site.current, ["REVISION", "data"]) == tree(version)
    assert (site.current / "data/own.db").read_text() == "precious"
    assert (old / "a").read_text() == "old"


# -- what can't be deployed ----------------------------------------------------------------------------


def test_an_odd_source_is_refused_by_name(tmp_path: Path) -> None:
    source = write(
        tmp_path / "source",
        {
            "fine": "1",
            "ok": "-> fine",
            "absolute": "-> /etc/passwd",
            "sub/escapes": "-> ../../outside",
            "up": "-> ..",
            "dotty": "-> sub/../../x",
        },
    )
    os.mkfifo(source / "pipe")
    before = Path.cwd()
    os.chdir(source)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind("sock")
    finally:
        os.chdir(before)
    nowhere = {
        "deploy_to": "/srv/nowhere",
        "source": {"path": str(source)},
        "ssh": {"connect_timeout": 1},
    }
    for keys in ({}, {"shared": {"dirs": ["sub"]}}):
        with pytest.raises(SourceError) as caught:
            fleet.deploy(settings.load(None, overrides=nowhere | keys), [Target("nobody@127.0.0.1:9")])
        for name in ("absolute", "sub/escapes", "up", "dotty", "pipe", "sock"):
            assert f"'{name}'" in caught.value.why, name
        for name in ("fine", "ok"):
            assert f"'{name}'" not in caught.value.why


def test_what_is_excluded_is_not_judged(site: Site, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"fine": "1", "absolute": "-> /etc/passwd", "run/x": "1"})
    os.mkfifo(source / "run/pipe")
    site.deploy(source, exclude=["/absolute", "*pipe"])
    assert tree(site.current, ["REVISION"]).keys() == {b"fine", b"run", b"run/x"}


def test_excluded_patterns_with_negation(site: Site, tmp_path: Path) -> None:
    source = write(
        tmp_path / "source",
        {
            "app.py": "",
            "a.log": "",
            "keep.log": "",
            "sub/b.log": "",
            "sub/keep.log": "",
            "node_modules/x/y.js": "",
            "sub/node_modules/z.js": "",
            "build/trash/t": "",
            "build/out/o": "",
            "sub/build/deep": "",
            "odd name": "",
            "#hash": "",
            ".git/config": "",
        },
    )
    patterns = ["*.log", "!keep.log", "node_modules/", "/build/*", "!/build/out/", r"\#hash", ".git/"]
    site.deploy(source, exclude=patterns)
    files = {os.fsdecode(path) for path, entry in tree(site.current).items() if entry[0] == "file"}
    wanted = {"app.py", "keep.log", "sub/keep.log", "build/out/o", "sub/build/deep", "odd name", "REVISION"}
    assert files == wanted
    # What was deployed and is excluded from now on is deleted.
    result = site.deploy(source, exclude=[*patterns, "sub/"])
    assert result.files_deleted == 2
    files = {os.fsdecode(path) for path, entry in tree(site.current).items() if entry[0] == "file"}
    assert files == {name for name in wanted if not name.startswith("sub/")}


# -- shared --------------------------------------------------------------------------------------------


@each_strategy
def test_what_is_shared_outlives_releases(site: Site, tmp_path: Path, strategy: str) -> None:
    site.keys.update(
        strategy=strategy,
        shared={"dirs": ["storage", "public/uploads", "logs"], "files": [".env", "late.ini"]},
    )
    ours = ["storage", "public/uploads", "logs", ".env", "late.ini"]
    version = write(
        tmp_path / "v",
        {
            "index": "1",
            "public/app.js": "1",
            "storage/seed.txt": "seed",
            "storage/deep/er.txt": "seed",
            "public/uploads/a.png": "seed",
            ".env": "KEY=first",
        },
    )
    site.deploy(version)

    assert_same(version, site.current, ours)
    links = {name: str((site.current / name).readlink()) for name in ours}
    assert links == {
        "storage": "../../shared/storage",
        "public/uploads": "../../../shared/public/uploads",
        "logs": "../../shared/logs",
        ".env": "../../shared/.env",
        "late.ini": "../../shared/late.ini",
    }
    assert tree(site.shared / "storage") == tree(version / "storage")
    assert tree(site.shared / "public/uploads") == tree(version / "public/uploads")
    assert (site.shared / ".env").read_text() == "KEY=first"
    assert list((site.shared / "logs").iterdir()) == []
    assert not (site.shared / "late.ini").exists()

    # A site lives: files come, change and go in what is shared.
    write(site.current, {"storage/live.db": "data", "public/uploads/b.png": "user's", "late.ini": "mine"})
    write(site.current, {".env": "KEY=production"})
    (site.current / "storage/deep/er.txt").unlink()
    give_all(site.server, site.shared)
    lived = tree(site.shared)

    for n in range(3):
        write(
            version,
            {
                "index": f"next {n}",
                "storage/seed.txt": f"another {n}",
                "storage/new": "another",
                ".env": f"KEY={n}",
                "late.ini": "not this",
                "public/uploads/c.png": "another",
            },
        )
        assert counted(site.deploy(version)) == (1, 6, 0)  # the index; no seeds
        assert tree(site.shared) == lived
        assert {name: str((site.current / name).readlink()) for name in ours} == links
        assert_same(version, site.current, ours)
    site.rollback()
    assert (site.current / "index").read_text() == "next 1"
    assert tree(site.shared) == lived
    assert (site.current / "storage/live.db").read_text() == "data"


@each_strategy
def test_a_path_that_is_shared_no_longer_and_one_that_now_is(
    site: Site, tmp_path: Path, strategy: str
) -> None:
    site.keys.update(strategy=strategy)
    version = write(
        tmp_path / "v", {"a": "1", "d/e": "1", "was/file": "1", "will/file": "2", "will.ini": "x"}
    )
    site.deploy(version, shared={"dirs": ["was", "d/only-shared"], "files": ["only.ini"]})
    assert (site.current / "d/only-shared").is_dir()
    write(site.shared, {"was/live": "data"})
    give_all(site.server, site.shared)
    lived = tree(site.shared)

    site.deploy(version)  # nothing is shared
    assert not (site.current / "was").is_symlink()
    assert_same(version, site.current)
    assert tree(site.shared) == lived

    site.deploy(version, shared={"dirs": ["will"], "files": ["will.ini"]})
    assert_same(version, site.current, ["will", "will.ini"])
    assert str((site.current / "will").readlink()) == "../../shared/will"
    assert str((site.current / "will.ini").readlink()) == "../../shared/will.ini"
    assert tree(site.shared / "will") == tree(version / "will")
    now = tree(site.shared)
    assert {path: now.get(path) for path in lived} == lived


@each_strategy
def test_a_directory_that_vanishes_around_a_shared_one(site: Site, tmp_path: Path, strategy: str) -> None:
    """`public/` has nothing of the source any more, and still holds the link."""
    site.keys.update(strategy=strategy, shared={"dirs": ["public/uploads"]})
    site.deploy(write(tmp_path / "v1", {"a": "1", "public/app.js": "1", "public/uploads/u": "seed"}))
    site.deploy(write(tmp_path / "v2", {"a": "1"}))
    assert tree(site.current, ["REVISION", "public/uploads"]).keys() == {b"a", b"public"}
    assert (site.current / "public/uploads/u").read_text() == "seed"


# -- git -----------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two commits, a tag, a branch, and uncommitted changes."""
    need("git")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(
        folder, {"a.txt": "one", "web/index.html": "one", "web/run.sh": "#!/bin/sh\n", "web/l": "-> run.sh"}
    )
    (folder / "web/run.sh").chmod(0o755)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "-a", "v1", "-m", "v1")
    write(folder, {"a.txt": "two", "with space/ü.txt": "two"})
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "two")
    git(folder, "checkout", "-q", "-b", "side", "v1")
    write(folder, {"side.txt": "side"})
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "side")
    git(folder, "checkout", "-q", "main")
    write(folder, {"a.txt": "uncommitted", "untracked.txt": "untracked"})
    return folder


def git(folder: Path, *words: str) -> str:
    return run("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words, cwd=folder).strip()


def expected(repository: Path, ref: str, folder: Path, subdir: str = "") -> Path:
    """A checkout by git itself."""
    where = folder / "expected" / ref.replace("/", "_")
    git(repository, "worktree", "add", "--detach", "-f", str(where), ref)
    (where / ".git").unlink()
    return where / subdir


def test_git_revisions(site: Site, repository: Path, tmp_path: Path) -> None:
    side, head, short = (git(repository, "rev-parse", r) for r in ("side", "HEAD", "HEAD~0"))
    for ref, commit in [
        ("v1", git(repository, "rev-parse", "v1^{commit}")),
        ("side", side),
        (short[:10], head),
        (side, side),
        ("main~1", git(repository, "rev-parse", "main~1")),
    ]:
        site.deploy({"git": str(repository), "ref": ref})
        assert (site.current / "REVISION").read_text() == commit + "\n"
        assert_same(expected(repository, ref, tmp_path), site.current)
    site.deploy({"git": str(repository)})  # HEAD, without what is uncommitted
    assert (site.current / "a.txt").read_text() == "two"
    assert not (site.current / "untracked.txt").exists()
    assert (site.current / "REVISION").read_text() == head + "\n"
    assert len(head) == 40


def test_a_part_of_a_git_repository(site: Site, repository: Path, tmp_path: Path) -> None:
    site.deploy({"git": str(repository), "ref": "v1", "subdir": "web"})
    assert_same(expected(repository, "v1", tmp_path, "web"), site.current)
    assert (site.current / "REVISION").read_text().strip() == git(repository, "rev-parse", "v1^{commit}")


@pytest.mark.parametrize(
    "source", [{"ref": "no-such"}, {"ref": "v1", "subdir": "nowhere"}, {"ref": "v1", "subdir": "a.txt"}]
)
def test_an_unknown_revision_is_refused(site: Site, repository: Path, source: dict[str, str]) -> None:
    with pytest.raises(SourceError) as caught:
        site.try_deploy({"git": str(repository), **source})
    assert "git can't give the source" in caught.value.what
    assert caught.value.hint
    assert not site.deploy_to.exists()


# -- drift ---------------------------------------------------------------------------------------------


def spoil(site: Site) -> None:
    """Change the cache by hand in every way there is."""
    cache = site.cache
    info = (cache / "same size").stat()
    (cache / "same size").write_text("AAAA")
    os.utime(cache / "same size", (info.st_atime, info.st_mtime))
    (cache / "mode").chmod(0o600)
    (cache / "missing").unlink()
    shutil.rmtree(cache / "gone")
    (cache / "link").unlink()
    (cache / "link").symlink_to("mode")
    (cache / "becomes dir").unlink()
    write(cache, {"becomes dir/x": "extra", "extra": "extra", "more/extra": "extra"})
    give_all(site.server, cache)


DRIFTING = {
    "same size": "aaaa",
    "mode": "1",
    "missing": "1",
    "gone/a": "1",
    "link": "-> same size",
    "becomes dir": "1",
    "fine/a": "1",
}


@each_transfer
def test_drift_is_reported_and_mended(site: Site, tmp_path: Path, transfer: str) -> None:
    if transfer == "rsync":
        need("rsync")
    site.keys.update(transfer=transfer)
    version = write(tmp_path / "v", DRIFTING)
    site.deploy(version)
    released = tree(site.current)
    assert site.cache_sync(version, verify=True).drift == {"missing": [], "altered": [], "extra": []}

    spoil(site)
    spoilt = tree(site.cache)
    drift = site.cache_sync(version, verify=True).drift
    assert drift is not None
    assert {kind: sorted(paths) for kind, paths in drift.items()} == {
        "missing": ["gone", "gone/a", "missing"],
        "altered": ["becomes dir", "link", "mode", "same size"],
        "extra": ["becomes dir/x", "extra", "more", "more/extra"],
    }
    assert tree(site.cache) == spoilt  # verify changes nothing

    site.cache_sync(version, repair=True)
    assert_same(version, site.cache)
    assert site.cache_sync(version, verify=True).drift == {"missing": [], "altered": [], "extra": []}
    assert tree(site.current) == released
    site.deploy(version)
    assert_same(version, site.current)


def test_a_spoilt_cache_is_mended(site: Site, tmp_path: Path) -> None:
    site.keys.update(verify="full")
    version = write(tmp_path / "v", DRIFTING)
    site.deploy(version)
    live, held = site.current, tree(site.current)
    spoil(site)
    site.deploy(version)
    assert site.current != live
    # What was uploaded is as it should be again; what somebody has added to the cache is not ours to remove.
    added = {b"extra", b"more", b"more/extra"}
    assert {path: what for path, what in tree(site.current).items() if path not in added} == held
    assert_tidy(site)

    result = site.deploy(version, options=Options(from_scratch=True))
    assert counted(result) == changes({}, tree(version))
    assert_same(version, site.cache)
    assert_same(version, site.current)
    assert site.cache_sync(version, verify=True).drift == {"missing": [], "altered": [], "extra": []}


def test_cache_sync_prepares_the_next_deployment(site: Site, tmp_path: Path) -> None:
    version = write(tmp_path / "v", {"a": "1", "d/b": "1"})
    site.deploy(version)
    live = site.current
    write(version, {"a": "2", "c": "2"})
    shutil.rmtree(version / "d")
    assert counted(site.cache_sync(version)) == (2, 2, 1)
    assert_same(version, site.cache)
    assert site.current == live
    assert (live / "a").read_text() == "1"
    result = site.deploy(version)
    assert counted(result) == (0, 0, 0)
    assert_same(version, site.current)
    assert (live / "a").read_text() == "1"


def test_from_scratch_with_previous_leaves_hand_edits_behind(site: Site, tmp_path: Path) -> None:
    version = write(tmp_path / "v", {"a": "1", "d/b": "1"})
    site.deploy(version, strategy="previous")
    write(site.current, {"by-hand": "1", "a": "3"})
    give_all(site.server, site.current)
    site.deploy(version, strategy="previous", options=Options(from_scratch=True))
    assert_same(version, site.current)


def test_the_strategies_take_turns(site: Site, docs: Releases) -> None:
    for n, strategy in enumerate(["previous", "cache", "previous", "cache", "cache"]):
        version = (docs.old / "releases", docs.new / "releases")[n % 2]
        site.deploy(version, strategy=strategy)
        assert_same(version, site.current)


def test_a_plan_says_what_would_happen_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    version = write(tmp_path / "v", {"a": "1", "b": "1", "c": "1", "d/e": "1"})
    site.deploy(version)
    write(version, {"a": "22", "new": "333"})
    (version / "b").unlink()
    before = tree(site.deploy_to)
    for strategy in STRATEGIES:
        plan = site.deploy(version, plan=True, strategy=strategy).plan
        assert plan is not None
        found = [[e.path for e in entries] for entries in (plan.added, plan.changed, plan.deleted)]
        assert found == [["new"], ["a"], ["b"]]
        assert plan.size == 5
    assert tree(site.deploy_to) == before


# -- a small host --------------------------------------------------------------------------------------


@pytest.fixture
def busybox(serve: Serve) -> Iterator[Sshd]:
    """A host whose account finds nothing but BusyBox."""
    need("busybox")
    with public_folder() as folder:
        run("busybox", "--install", "-s", folder)
        yield serve(extra=f"SetEnv PATH={folder}")


BUSYBOX_ONLY = (
    "for p in zstd rsync bash perl; do ! command -v $p || exit 1; done; cp --help 2>&1 | grep BusyBox"
)


@each_strategy
def test_a_host_with_nothing_but_busybox(
    busybox: Sshd, docs: Releases, tmp_path: Path, strategy: str
) -> None:
    keys = {"strategy": strategy, "hooks": {"before_switch": [BUSYBOX_ONLY]}}
    site = Site(busybox, busybox.new_dir() / "site", keys)
    results = there_and_back(site, docs.old, docs.new)
    assert [r.transfer for r in results] == ["stream", "stream"]

    odd = write(
        tmp_path / "odd",
        {
            "with space": "1",
            "new\nline": "2",
            "-rf": "3",
            "d'q\"": "4",
            "ü/$(x)": "5",
            "empty": None,
            "l": "-> with space",
            "x" * 120 + "/" + "y" * 120: "long",
        },
    )
    site.deploy(odd)
    assert_same(odd, site.current)
    drift = site.cache_sync(odd, verify=True).drift
    if strategy == "cache":
        assert drift == {"missing": [], "altered": [], "extra": []}


NO_LINKS = """
case " $*" in *" -l"*) echo "cp: cannot create hard link: Operation not permitted" >&2; exit 1 ;; esac
"""


@each_strategy
def test_a_host_without_hard_links(serve: Serve, docs: Releases, strategy: str) -> None:
    """Its file system, so its cp says, has none."""
    server = serve(programs={"cp": NO_LINKS})
    there_and_back(Site(server, server.new_dir() / "site", {"strategy": strategy}), docs.old, docs.new)


# -- as a person types it ------------------------------------------------------------------------------


def test_the_same_by_command(sshd: Sshd, host_dir: Path, repository: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    site = Site(sshd, host_dir / "site", {})
    config = {
        "application": "shop",
        "deploy_to": str(site.deploy_to),
        "source": {"git": str(repository)},
        "hosts": [{"host": sshd.host, "port": sshd.port, "user": sshd.user, "identity": str(sshd.identity)}],
        "ssh": {"known_hosts": str(sshd.known_hosts), "host_keys": "strict"},
    }
    (project / "config.yaml").write_text(json.dumps(config))  # JSON is YAML

    def fab(*words: str) -> dict[str, Any]:
        found = json.loads(
            run(sys.executable, "-m", "fabric", "-r", REPOSITORY, *words, "--json", cwd=project)
        )
        assert isinstance(found, dict)
        return found

    for ref in ("v1", "main"):
        done = fab("deploy", "--ref", ref)
        assert done["ok"]
        assert_same(expected(repository, ref, tmp_path), site.current)
    assert (done["hosts"][0]["files_uploaded"], done["hosts"][0]["files_deleted"]) == (2, 0)

    first = fab("releases")["hosts"][0]["releases"][0]
    assert (first["state"], first["revision"]) == ("good", git(repository, "rev-parse", "v1^{commit}"))
    back = fab("rollback")
    assert back["hosts"][0]["release"] == first["id"] == site.current.name
    assert_same(expected(repository, "v1", tmp_path / "again"), site.current)

    (site.cache / "a.txt").unlink()
    drift = fab("cache-sync", "--verify")["hosts"][0]["drift"]
    assert drift == {"missing": ["a.txt"], "altered": [], "extra": []}
    fab("cache-sync", "--repair")
    assert_same(expected(repository, "main", tmp_path / "repaired"), site.cache)
    assert target(sshd).identity == str(sshd.identity)
