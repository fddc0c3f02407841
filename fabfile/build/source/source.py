"""The source: a folder, or a revision of a git repository, scanned into a manifest.

What is shared between releases is kept apart (`seeds`): it goes into shared/ once, never into a release.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SourceError
from ...local.scratch import scratch
from ...on_host.manifest import Entry, Manifest
from .scan import BLOCK, SHOWN, Found, Identity, ReplacedError, Scan, changed, open_file, problems

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True)
class Source:
    """A local tree, ready to be deployed.

    identities: which file each entry was, where that is known. notes: what a person should know of it.
    """

    root: Path
    manifest: Manifest
    seeds: Manifest
    revision: str  # what people call it: a commit, else `tree`
    tree: str  # a name for exactly this content
    root_mode: int = 0o755  # of the release's own directory
    identities: Mapping[str, Identity] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def read(self, entry: Entry, skip: int = 0) -> Iterator[bytes]:
        """The blocks of a file: exactly `entry.size` bytes with `entry.content` as their sha256.

        skip: bytes at the beginning that are read, but not given.
        Raises SourceError when the file is no longer what was scanned; before the first byte, if it is
        another file.
        """
        digest, size = hashlib.sha256(), 0
        handle = self._open(entry)
        try:
            while size <= entry.size and (block := os.read(handle, min(BLOCK, entry.size + 1))):
                digest.update(block)
                size += len(block)
                if size > entry.size:
                    break
                if size > skip:
                    yield block[max(0, len(block) - (size - skip)) :]
        except OSError as error:
            raise changed(entry.path, str(error)) from error
        finally:
            os.close(handle)
        if size != entry.size or digest.hexdigest() != entry.content:
            raise changed(entry.path, f"{entry.size} bytes were scanned, now its content is another")

    def sample(self, entry: Entry, offset: int, size: int) -> bytes:
        """Some bytes of a file, unproven. Raises SourceError."""
        handle = self._open(entry)
        try:
            return os.pread(handle, size, offset)
        except OSError as error:
            raise changed(entry.path, str(error)) from error
        finally:
            os.close(handle)

    def digest_of_first(self, entry: Entry, size: int) -> str:
        """The sha256 of a file's first `size` bytes, in hex. Raises SourceError."""
        handle = self._open(entry)
        try:
            return _digest(handle, size)
        except OSError as error:
            raise changed(entry.path, str(error)) from error
        finally:
            os.close(handle)

    def copy(self, entries: Iterable[Entry], folder: Path) -> None:
        """Copy files and links into an empty folder of our own, as they were scanned. Raises SourceError."""
        for entry in entries:
            path = f"{folder}/{entry.path}"
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                if entry.kind == "link":
                    os.symlink(entry.content, path)  # noqa: PTH211
                    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
                    continue
                with open(path, "xb", buffering=0) as file:  # noqa: PTH123
                    for block in self.read(entry):
                        file.write(block)
                    os.fchmod(file.fileno(), entry.mode)
                    os.utime(file.fileno(), (entry.mtime, entry.mtime))
            except OSError as error:
                raise SourceError(
                    f"{entry.path!r} can't be copied.", str(error), "Free some space here."
                ) from error

    def _open(self, entry: Entry) -> int:
        """The file of an entry, open: the one that was scanned, else one with the same content.

        A folder above it may be another by now, or a link. Raises SourceError.
        """
        path = f"{self.root}/{entry.path}"
        try:
            try:
                return open_file(path, self.identities.get(entry.path), entry.size)
            except ReplacedError:
                handle = open_file(path, None, entry.size)
                same = _digest(handle, entry.size) == entry.content
                if same:
                    os.lseek(handle, 0, os.SEEK_SET)
                    return handle
                os.close(handle)
                raise
        except OSError as error:
            raise changed(entry.path, str(error)) from error


def _digest(handle: int, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0 and (block := os.read(handle, min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


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
    from . import export

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch())
        except OSError as error:
            raise SourceError(
                "There is no place for an export.", str(error), "Free some space here."
            ) from error
        skip = _spec(exclude).match_file
        done = export.export(git, ref, subdir or "", folder / "tree", folder, skip)
        yield scan(folder / "tree", exclude, shared, revision=done.commit, said=done.said)


def _spec(exclude: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # here, because only what reads a source needs it

    return GitIgnoreSpec.from_lines(exclude)


def scan(
    root: Path, exclude: Sequence[str], shared: Iterable[str], revision: str | None = None, said: str = ""
) -> Source:
    """Read a folder. Raises SourceError, naming every path that can't be deployed.

    revision: the commit that it is an export of, which nobody else can change. said: what git had to say.
    """
    if not root.is_dir():
        raise SourceError(
            f"The source {root} is not a folder.",
            "it does not exist" if not root.exists() else "it is a file",
            "Correct source.path (relative to config.yaml), or build it first (hooks.local_build).",
        )
    shared = tuple(shared)
    found = Scan(root, _spec(exclude), remember=revision is None).run()
    _refuse_odd(found, shared, root, said)
    manifest, seeds = _split(found.entries, shared)
    tree = manifest.revision()
    mode = _root_mode(root, manifest) if revision is None else 0o755
    return Source(root, manifest, seeds, revision or tree, tree, mode, found.identities, tuple(found.notes))


def _root_mode(root: Path, manifest: Manifest) -> int:
    """The folder's own mode; but 0700, as `mktemp -d` makes it, says nothing where all may read its files."""
    mode = (root.stat().st_mode & 0o777) | 0o700
    readable = any(entry.mode & 0o004 for entry in manifest if entry.kind == "file")
    return 0o755 if mode == 0o700 and readable else mode


def _split(entries: list[Entry], shared: tuple[str, ...]) -> tuple[Manifest, Manifest]:
    """Apart: what goes into releases, and what lies at or under a shared path."""
    below = tuple(f"{path}/" for path in shared)
    seeds = [entry for entry in entries if entry.path in shared or entry.path.startswith(below)]
    theirs = {entry.path for entry in seeds}
    return Manifest(e for e in entries if e.path not in theirs), Manifest(seeds)


def _refuse_odd(found: Found, shared: tuple[str, ...], root: Path, said: str) -> None:
    if not found.entries:
        raise SourceError(
            "The source is empty.",
            "it has no file, or `exclude` leaves none",
            "Build it first (hooks.local_build), or correct source.path and exclude.",
        )
    if lines := problems(found, shared, root):
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise SourceError(
            "The source holds what can't be deployed.",
            "\n".join([*lines[:SHOWN], *more, *([f"git said: {said}"] if said and found.pointers else [])]),
            _advice(found, lines),
        )


def _advice(found: Found, lines: list[str]) -> str:
    ways = []
    if any(" -> " in line for line in lines):
        ways.append("Make these links relative and inside the source.")
    if found.pointers:
        ways.append("Install git-lfs here and run `git lfs pull` in the repository.")
    if any("submodule" in line for line in lines):
        ways.append("Run `git submodule update --init --recursive`.")
    return " ".join([*ways, "What is not needed can be listed under `exclude`."])
