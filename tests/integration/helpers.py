"""What integration tests share: a site on a server, trees and how to compare them, Django to deploy."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fabfile import fleet, settings
from fabfile.demo.server import Server
from fabfile.fleet import Outcome, Target
from tests.lab.sshd import Sshd

AnyServer = Server | Sshd

HOME = os.environ.get("HOME", "")  # the person's: read before the tests put an empty one in its place
HOME_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path(HOME or "/tmp", ".cache")) / "switchover-tests"
FETCH_TIMEOUT = 120.0  # seconds for one source archive
OLD, NEW = "5.1.4", "5.1.5"


# -- deploying -----------------------------------------------------------------------------------------


def target(server: AnyServer) -> Target:
    """The server as a host of a deployment."""
    return Target(f"{server.user}@{server.host}:{server.port}", str(server.identity))


def ssh_rules(server: AnyServer) -> dict[str, Any]:
    """The section `ssh` for a server that is known; a drop that lasts ends a test soon."""
    reconnect = {"attempts": 3, "window": 20}
    return {"known_hosts": str(server.known_hosts), "host_keys": "strict", "reconnect": reconnect}


@dataclass
class Site:
    """One deploy_to on one server, driven through the Python API.

    keys: what config.yaml would say for it, over what is set here already.
    """

    server: AnyServer
    deploy_to: Path
    keys: dict[str, Any]

    def settings(self, source: Path | dict[str, str] | None = None, **more: Any) -> settings.Settings:
        """Settings for this site; `more` are further top-level keys."""
        chosen: dict[str, Any] = {
            "application": "shop",
            "deploy_to": str(self.deploy_to),
            "exclude": [],
            "ssh": ssh_rules(self.server),
            **self.keys,
            **more,
        }
        if source is not None:
            chosen["source"] = source if isinstance(source, dict) else {"path": str(source)}
        return settings.load(None, overrides=chosen)

    def deploy(
        self, source: Path | dict[str, str], *, options: Any = None, plan: bool = False, **more: Any
    ) -> fleet.HostResult:
        """A deployment that must succeed; what became of the host."""
        return good(
            fleet.deploy(self.settings(source, **more), [target(self.server)], options=options, plan=plan)
        )

    def try_deploy(self, source: Path | dict[str, str], **more: Any) -> Outcome:
        """A deployment that may fail."""
        return fleet.deploy(self.settings(source, **more), [target(self.server)])

    def rollback(self, to: str | None = None, **more: Any) -> fleet.HostResult:
        """A rollback that must succeed."""
        return good(fleet.rollback(self.settings(**more), [target(self.server)], to=to))

    def cache_sync(self, source: Path, **more: Any) -> fleet.HostResult:
        """A cache-sync that must succeed; `verify` and `repair` are its own, `more` are keys."""
        own = {name: more.pop(name) for name in ("verify", "repair") if name in more}
        return good(fleet.cache_sync(self.settings(source, **more), [target(self.server)], **own))

    def states(self) -> dict[str, str]:
        """The state of each release, oldest first."""
        outcome, listings = fleet.releases(self.settings(), [target(self.server)])
        assert outcome.exit_code == 0, outcome.error
        return {record.id: record.state for record in listings[0].releases}

    @property
    def current(self) -> Path:
        """The live release's directory, as the link says it."""
        return self.deploy_to / (self.deploy_to / "current").readlink()

    @property
    def shared(self) -> Path:
        return self.deploy_to / "shared"

    @property
    def cache(self) -> Path:
        return self.deploy_to / "cache"


def good(outcome: Outcome) -> fleet.HostResult:
    """The one host of an outcome that must be good."""
    error = outcome.error
    assert outcome.exit_code == 0, f"{error and error.what}\n{error and error.why}\n{error and error.hint}"
    assert len(outcome.hosts) == 1
    return outcome.hosts[0]


def give_all(server: AnyServer, path: Path) -> None:
    """Make a path, and what is below it, the login account's: what a test put there by hand."""
    if isinstance(server, Sshd):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                server.give(Path(folder) / name)
        server.give(path)


# -- trees ---------------------------------------------------------------------------------------------

Tree = dict[bytes, tuple[Any, ...]]


def tree(root: Path, without: Iterable[str] = (), *, times: bool = False) -> Tree:
    """Every path below `root` with what it is: kind and mode, a file's content, a link's target.

    without: relative paths to leave out, with what is below them. times: with the mtimes of files, in
    whole seconds. A directory's mode has the owner's rwx, as deployments force it.
    """
    left_out = {os.fsencode(path) for path in without}
    found: Tree = {}

    def walk(folder: bytes, prefix: bytes) -> None:
        with os.scandir(folder) as items:
            for item in items:
                path = prefix + item.name
                if path in left_out:
                    continue
                info = item.stat(follow_symlinks=False)
                mode = stat.S_IMODE(info.st_mode)
                if item.is_symlink():
                    found[path] = ("link", os.readlink(item.path))  # noqa: PTH115  (bytes)
                elif item.is_dir(follow_symlinks=False):
                    found[path] = ("dir", oct((mode & 0o777) | 0o700))
                    walk(item.path, path + b"/")
                elif stat.S_ISREG(info.st_mode):
                    content = Path(os.fsdecode(item.path)).read_bytes()
                    found[path] = ("file", oct(mode), content, int(info.st_mtime) if times else 0)
                else:
                    found[path] = ("special", stat.S_IFMT(info.st_mode))

    walk(os.fsencode(root), b"")
    return found


@functools.lru_cache(maxsize=8)
def fixed_tree(root: Path, times: bool = False) -> Tree:
    """The same for a tree that nobody changes: Django's."""
    return tree(root, times=times)


def _without_special_bits(what: tuple[Any, ...]) -> tuple[Any, ...]:
    """As a path of a source is deployed: setuid, setgid and sticky bits do not travel."""
    return ("file", oct(int(what[1], 8) & 0o777), *what[2:]) if what[0] == "file" else what


def differences(wanted: Tree, found: Tree) -> list[str]:
    """What is not the same, one line a path."""
    lines = [f"missing: {path!r}" for path in wanted.keys() - found.keys()]
    lines += [f"extra: {path!r}" for path in found.keys() - wanted.keys()]
    for path in wanted.keys() & found.keys():
        if wanted[path] != found[path]:
            lines.append(f"differs: {path!r}: {_short(wanted[path])} became {_short(found[path])}")
    return sorted(lines)


def _short(entry: tuple[Any, ...]) -> str:
    return ", ".join(f"{len(x)} bytes {x[:40]!r}" if isinstance(x, bytes) else str(x) for x in entry)


def assert_same(source: Path, release: Path, without: Sequence[str] = (), *, times: bool = False) -> None:
    """The release holds the source, file by file. REVISION and `without` (shared paths) do not count."""
    fixed = HOME_CACHE in source.parents and not without
    wanted = fixed_tree(source, times) if fixed else tree(source, without, times=times)
    wanted = {path: _without_special_bits(what) for path, what in wanted.items()}
    wrong = differences(wanted, tree(release, ("REVISION", *without), times=times))
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:20])


def assert_tidy(site: Site) -> None:
    """Nothing half done is left: no upload, no temporary link, no lock, and `current` is a relative link."""
    own = site.deploy_to / ".switchover"
    assert not list((own / "incoming").iterdir())
    assert not os.path.lexists(own / "current.new")
    assert not list(own.rglob("*.new")), "temporary files are left"
    locks = sorted((own / "lock").iterdir(), key=lambda path: int(path.name))
    assert (locks[-1] / "released").exists()
    link = (site.deploy_to / "current").readlink()
    assert link.parts[0] == "releases"
    assert (site.deploy_to / link).is_dir()


def write(root: Path, files: dict[str, str | bytes | None]) -> Path:
    """Files (content), links ("-> target") and directories (None) below `root`; returns it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        elif isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    root.mkdir(parents=True, exist_ok=True)
    return root


# -- a real project ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Releases:
    """Two releases of a real project, unpacked. Not to be changed."""

    old: Path
    new: Path


def fetch_django() -> Releases:
    """Django's source archives, downloaded and unpacked once per machine; skips where there is no network."""
    HOME_CACHE.mkdir(parents=True, exist_ok=True)
    with (HOME_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one xdist worker fetches, the others wait
        return Releases(*(_unpacked(HOME_CACHE, version) for version in (OLD, NEW)))


def _unpacked(base: Path, version: str) -> Path:
    folder = base / f"django-{version}"
    if not folder.is_dir():
        part = base / f"django-{version}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        archive = _download(part, version)
        with tarfile.open(archive) as tar:
            tar.extractall(part / "tree", filter="data")
        (found,) = (part / "tree").iterdir()
        found.rename(folder)
        shutil.rmtree(part)
    return folder


def _download(folder: Path, version: str) -> Path:
    """The archive by pip, which knows this machine's indexes. It insists on reading the metadata first."""
    ask = ["download", "--quiet", "--no-deps", "--no-binary", "django", "-d", str(folder)]
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        command = [uv, "tool", "run", "--with", "setuptools>=75,<80", "pip", *ask, "--no-build-isolation"]
    else:
        command = [sys.executable, "-m", "pip", *ask]
    try:
        done = subprocess.run(
            [*command, f"django=={version}"],
            cwd=folder,
            env={**os.environ, "HOME": HOME},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT,
        )
        said, status = done.stderr.strip()[-600:], done.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        said, status = str(error), 1
    archives = list(folder.glob("*.tar.gz"))
    if status or not archives:
        unavailable(f"Django {version} can't be had from the package index: {said}")
    return archives[0]


def unavailable(why: str) -> None:
    """Skip, and say so; in CI nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
