"""The source: a folder, or a revision of a git repository, scanned into a manifest.

What is shared between releases is kept apart (`seeds`): it goes into shared/ once, never into a release.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SourceError
from . import remembered
from .manifest import Entry, Manifest

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

BLOCK = 1 << 18  # bytes read at a time
SLICE = 256  # files a thread reads at a time
SETTLED = 2 * 10**9  # nanoseconds; the coarsest clock of a file system (FAT)
GIT_TIMEOUT = 600.0  # seconds; a clone over a slow network


@dataclass(frozen=True)
class Source:
    """A local tree, ready to be deployed."""

    root: Path
    manifest: Manifest
    seeds: Manifest
    revision: str  # what people call it: a commit, else `tree`
    tree: str  # a name for exactly this content
    root_mode: int = 0o755  # of the release's own directory

    def read(self, entry: Entry, skip: int = 0) -> Iterator[bytes]:
        """The blocks of a file: exactly `entry.size` bytes with `entry.content` as their sha256.

        skip: bytes at the beginning that are read, but not given.
        Raises SourceError when the file is no longer what was scanned.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with open(f"{self.root}/{entry.path}", "rb", buffering=0) as file:  # noqa: PTH123  (as above)
                while size <= entry.size and (block := file.read(min(BLOCK, entry.size + 1))):
                    digest.update(block)
                    size += len(block)
                    if size > entry.size:
                        break
                    if size > skip:
                        yield block[max(0, len(block) - (size - skip)) :]
        except OSError as error:
            raise _changed(entry.path, str(error)) from error
        if size != entry.size or digest.hexdigest() != entry.content:
            raise _changed(entry.path, f"{entry.size} bytes were scanned, now its content is another")

    def sample(self, entry: Entry, offset: int, size: int) -> bytes:
        """Some bytes of a file, unproven. Raises SourceError."""
        try:
            with (self.root / entry.path).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise _changed(entry.path, str(error)) from error

    def digest_of_first(self, entry: Entry, size: int) -> str:
        """The sha256 of a file's first `size` bytes, in hex."""
        digest = hashlib.sha256()
        with (self.root / entry.path).open("rb") as file:
            while size > 0 and (block := file.read(min(BLOCK, size))):
                digest.update(block)
                size -= len(block)
        return digest.hexdigest()


def _changed(path: str, why: str) -> SourceError:
    return SourceError(
        f"{path!r} changed while it was deployed.", why, "Let the build finish before the deployment starts."
    )


@contextmanager
def opened(
    *,
    path: Path | None = None,
    git: str | None = None,
    ref: str | None = None,
    subdir: str | None = None,
    exclude: Sequence[str] = (),
    shared: Iterable[str] = (),
) -> Iterator[Source]:
    """Scan a folder (`path`) or a git revision (`git`, `ref`, `subdir`). Raises SourceError.

    A git revision is exported to a temporary folder that is gone afterwards.
    """
    if path is not None:
        yield scan(path, exclude, shared)
        return
    assert git is not None
    with tempfile.TemporaryDirectory(prefix="switchover-") as folder:
        commit = _export(git, ref or "HEAD", subdir or "", Path(folder))
        yield scan(Path(folder) / "tree", exclude, shared, revision=commit)


def scan(root: Path, exclude: Sequence[str], shared: Iterable[str], revision: str | None = None) -> Source:
    """Read a folder. Raises SourceError, naming every path that can't be deployed."""
    if not root.is_dir():
        raise SourceError(
            f"The source {root} is not a folder.",
            "it does not exist" if not root.exists() else "it is a file",
            "Correct source.path (relative to config.yaml), or build it first (hooks.local_build).",
        )
    from pathspec import GitIgnoreSpec  # here, because only what reads a source needs it

    entries = _Scan(root, GitIgnoreSpec.from_lines(exclude), remember=revision is None).run()
    manifest, seeds = _split(entries, tuple(shared))
    _refuse_odd(manifest, seeds, shared)
    tree = manifest.revision()
    mode = _root_mode(root, manifest) if revision is None else 0o755
    return Source(root, manifest, seeds, revision or tree, tree, mode)


def _root_mode(root: Path, manifest: Manifest) -> int:
    """The folder's own mode; but 0700, as `mktemp -d` makes it, says nothing where all may read its files."""
    mode = (root.stat().st_mode & 0o777) | 0o700
    readable = any(entry.mode & 0o004 for entry in manifest if entry.kind == "file")
    return 0o755 if mode == 0o700 and readable else mode


class _Scan:
    """One reading of a folder. remember: files that lstat shows as they were are not read again."""

    def __init__(self, root: Path, excluded: GitIgnoreSpec, *, remember: bool) -> None:
        self.root = str(root)
        self.excluded = excluded if list(excluded.patterns) else None
        self.remember = remember
        self.before = remembered.digests(root) if remember else {}
        self.after: dict[str, str] = {}
        self.entries: list[Entry] = []
        self.unread: list[tuple[int, str]] = []  # where in `entries`, and how it is remembered
        # What was written this moment may be written again within the same tick of the clock.
        self.settled = time.time_ns() - SETTLED

    def run(self) -> list[Entry]:
        """The entries. Raises SourceError."""
        self._folder("")
        self._read_all()
        if self.remember and (self.unread or self.before):
            remembered.keep_digests(Path(self.root), self.after)
        return self.entries

    def _folder(self, folder: str) -> None:
        try:
            found = sorted(os.scandir(f"{self.root}/{folder}"), key=lambda item: item.name)
            for item in found:
                path = f"{folder}/{item.name}" if folder else item.name
                info = item.stat(follow_symlinks=False)
                is_dir = stat.S_ISDIR(info.st_mode)
                if self.excluded and self.excluded.match_file(path + "/" if is_dir else path):
                    continue
                self._note(path, info)
                if is_dir:
                    self._folder(path)
        except OSError as error:
            what = folder or self.root
            raise SourceError(f"{what} can't be read.", str(error), "Check its permissions.") from error

    def _note(self, path: str, info: os.stat_result) -> None:
        mode, mtime = info.st_mode, max(0, int(info.st_mtime))
        if stat.S_ISREG(mode):
            entry = Entry(path, "file", stat.S_IMODE(mode), info.st_size, mtime, self._digest(path, info))
        elif stat.S_ISDIR(mode):
            # The owner can enter and change every directory: else it could be neither updated nor deleted.
            entry = Entry(path, "dir", (mode & 0o777) | 0o700, 0, mtime)
        elif stat.S_ISLNK(mode):
            # Not by pathlib, which would turn ./b and b/ into b.
            entry = Entry(path, "link", 0o777, 0, mtime, os.readlink(f"{self.root}/{path}"))  # noqa: PTH115
        else:
            entry = Entry(path, "special", 0)
        self.entries.append(entry)

    def _digest(self, path: str, info: os.stat_result) -> str:
        """From memory; "" where it has to be read."""
        file = f"{path}\0{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_ino} {info.st_dev}"
        if known := self.before.pop(file, ""):
            self.after[file] = known
            return known
        settled = max(info.st_mtime_ns, info.st_ctime_ns) < self.settled
        self.unread.append((len(self.entries), file if settled else ""))
        return ""

    def _read_all(self) -> None:
        slices = [self.unread[i : i + SLICE] for i in range(0, len(self.unread), SLICE)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for some, read in zip(slices, pool.map(self._read, slices), strict=True):
                for (at, file), digest in zip(some, read, strict=True):
                    self.entries[at] = self.entries[at]._replace(content=digest)
                    if file:
                        self.after[file] = digest

    def _read(self, some: list[tuple[int, str]]) -> list[str]:
        digests = []
        for at, _ in some:
            path = self.entries[at].path
            try:
                with open(f"{self.root}/{path}", "rb") as file:  # noqa: PTH123  (Paths take their time)
                    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
            except OSError as error:
                raise _unreadable(path, error) from error
        return digests


def _unreadable(path: str, error: OSError) -> SourceError:
    return SourceError(f"{path!r} can't be read.", str(error), "Check its permissions, or exclude it.")


def _split(entries: list[Entry], shared: tuple[str, ...]) -> tuple[Manifest, Manifest]:
    """Apart: what goes into releases, and what lies at or under a shared path."""
    below = tuple(f"{path}/" for path in shared)
    seeds = [entry for entry in entries if entry.path in shared or entry.path.startswith(below)]
    theirs = {entry.path for entry in seeds}
    return Manifest(e for e in entries if e.path not in theirs), Manifest(seeds)


def _refuse_odd(manifest: Manifest, seeds: Manifest, shared: Iterable[str]) -> None:
    problems = []
    for entry in (*manifest, *seeds):
        if entry.kind == "special":
            problems.append(f"{entry.path!r} is neither a file, a directory nor a symlink")
        elif entry.kind == "link" and (reason := _leads_out(entry)):
            problems.append(f"{entry.path!r} -> {entry.content!r} {reason}")
    for path in shared:
        for parent in _parents(path):
            found = manifest.get(parent)
            if found and found.kind != "dir":
                problems.append(f"{parent!r} is a {found.kind}, but {path!r} below it is to be shared")
    if not len(manifest) and not len(seeds):
        raise SourceError(
            "The source is empty.",
            "it has no file, or `exclude` leaves none",
            "Build it first (hooks.local_build), or correct source.path and exclude.",
        )
    if problems:
        raise SourceError(
            "The source holds what can't be deployed.",
            "\n".join(problems),
            "Make these links relative and inside the source, or list the paths under `exclude`.",
        )


def _leads_out(link: Entry) -> str:
    if link.content.startswith("/"):
        return "is absolute: it would point elsewhere on the host"
    meets = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), link.content))
    return "leads out of the source" if meets == ".." or meets.startswith("../") else ""


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _export(repository: str, ref: str, subdir: str, folder: Path) -> str:
    """Unpack `ref` of a repository into folder/tree; the commit's full id."""
    if not Path(repository).exists():
        clone = folder / "clone.git"
        _git(folder, "clone", "--quiet", "--bare", "--", repository, str(clone))
        repository = str(clone)
    inside = Path(repository)
    commit = (
        _git(inside, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        .decode()
        .strip()
    )
    archive = folder / "tree.tar"
    wanted = f"{commit}:{subdir.strip('/')}" if subdir.strip("/") else commit
    _git(inside, "-c", "tar.umask=0022", "archive", "--format=tar", "-o", str(archive), wanted)
    (folder / "tree").mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "tree", filter=_as_archived)
    archive.unlink()
    shutil.rmtree(folder / "clone.git", ignore_errors=True)
    return commit


def _as_archived(member: tarfile.TarInfo, _: str) -> tarfile.TarInfo:
    """git writes plain names; links are judged by the scan that follows."""
    member.uid, member.gid = os.getuid(), os.getgid()
    return member


def _git(folder: Path, *words: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        raise SourceError(
            "The source is a git repository, but git is not installed here.", "", "Install git."
        )
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            [git, *words],
            cwd=folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=GIT_TIMEOUT,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"git {words[0]} did not end within {GIT_TIMEOUT:g} s.", "", "Try it by hand."
        ) from error
    except OSError as error:
        raise SourceError(f"git can't be run in {folder}.", str(error), "Correct source.git.") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or "(git said nothing: no such ref?)"
        raise SourceError(
            "git can't give the source.",
            f"git {' '.join(words)} in {folder}: {said}",
            "Check source.git, --ref and source.subdir; see `git branch -a` and `git tag`.",
        )
    return done.stdout
