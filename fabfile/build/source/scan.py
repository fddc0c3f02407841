"""Reading a folder: its entries, and whether they can be deployed.

The folder may change while it is read, also by somebody else's hand: a folder or file is opened without
following a link at its place, and counts only if it is the one that was listed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SourceError
from ...local import local_cache
from ...on_host.manifest import Entry

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

BLOCK = 1 << 18  # bytes read at a time
SLICE = 256  # files a thread reads at a time
SETTLED = 2 * 10**9  # nanoseconds; the coarsest clock of a file system (FAT)
TIME_MAX = 2**32 - 1  # Unix seconds: what SFTP can say (draft-ietf-secsh-filexfer-02)
HOPS = 40  # links that Linux follows for one path
SHOWN = 10  # paths named in a message
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: smaller than 1024 bytes
POINTER, POINTER_MAX = b"version https://git-lfs.github.com/spec/", 1024
_MODULE_PATH = re.compile(r"^[ \t]*path[ \t]*=[ \t]*\"?([^\"\n]*?)\"?[ \t]*$", re.M)

Identity = tuple[int, int]  # inode, device


@dataclass
class Found:
    """What a folder holds. notes: what a person should know of it."""

    entries: list[Entry] = field(default_factory=list)
    identities: dict[str, Identity] = field(default_factory=dict)  # of files
    pointers: list[str] = field(default_factory=list)  # files that stand for LFS content
    notes: list[str] = field(default_factory=list)


def open_file(path: str, wanted: Identity | None, size: int) -> int:
    """Open a regular file of `size` bytes; a file descriptor. No link is followed at its end, and nothing
    waits for a FIFO. Raises OSError, also where it is not the file with the identity `wanted`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(0, "it is no regular file any more", path)
        if info.st_size != size:
            raise OSError(0, f"it had {size} bytes, now it has {info.st_size}", path)
        if wanted is not None and (info.st_ino, info.st_dev) != wanted:
            raise ReplacedError(0, "another file is in its place", path)
    except OSError:
        os.close(handle)
        raise
    return handle


class ReplacedError(OSError):
    """A file of the right size, but not the one that was there."""


class Scan:
    """One reading of a folder. remember: files that lstat shows as they were are not read again."""

    def __init__(self, root: Path, excluded: GitIgnoreSpec, *, remember: bool) -> None:
        self.root = str(root)
        self.excluded = excluded if list(excluded.patterns) else None
        self.remember = remember
        self.before = local_cache.digests(root) if remember else {}
        self.after: dict[str, str] = {}
        self.found = Found()
        self.special: list[str] = []  # with setuid, setgid or sticky
        self.unread: list[tuple[int, str]] = []  # where in the entries, and how it is remembered
        # What was written this moment may be written again within the same tick of the clock.
        self.settled = time.time_ns() - SETTLED

    def run(self) -> Found:
        """What is there. Raises SourceError."""
        self._folders()
        self._read_all()
        if self.remember and (self.unread or self.before):
            local_cache.keep_digests(Path(self.root), self.after)
        if self.special:
            self.found.notes.append(f"setuid, setgid and sticky bits do not travel: {shorten(self.special)}")
        return self.found

    def _folders(self) -> None:
        """Depth first, each folder's names in order."""
        waiting: list[Iterator[tuple[str, os.stat_result]]] = [iter([("", os.stat(self.root))])]  # noqa: PTH116
        while waiting:
            path, info = next(waiting[-1], ("", None))
            if info is None:
                waiting.pop()
                continue
            if path:
                self._note(path, info)
            if stat.S_ISDIR(info.st_mode):
                waiting.append(iter(self._listed(path, info)))

    def _listed(self, folder: str, listed: os.stat_result) -> list[tuple[str, os.stat_result]]:
        try:
            follow = 0 if not folder else os.O_NOFOLLOW  # source.path itself may be a link
            handle = os.open(f"{self.root}/{folder}", os.O_RDONLY | os.O_DIRECTORY | follow)
            try:
                info = os.fstat(handle)
                if (info.st_ino, info.st_dev) != (listed.st_ino, listed.st_dev):
                    raise ReplacedError(0, "another folder is in its place", folder)
                with os.scandir(handle) as items:
                    found = [(item.name, item.stat(follow_symlinks=False)) for item in items]
            finally:
                os.close(handle)
        except OSError as error:
            raise SourceError(
                f"{folder or self.root!r} can't be read.", str(error), "Check its permissions."
            ) from error
        start = f"{folder}/" if folder else ""
        return [(start + name, info) for name, info in sorted(found, key=lambda item: item[0])
                if not self._is_excluded(start + name, info)]  # fmt: skip

    def _is_excluded(self, path: str, info: os.stat_result) -> bool:
        if self.excluded is None:
            return False
        return bool(self.excluded.match_file(f"{path}/" if stat.S_ISDIR(info.st_mode) else path))

    def _note(self, path: str, info: os.stat_result) -> None:
        mode, mtime = info.st_mode, min(max(0, int(info.st_mtime)), TIME_MAX)
        if stat.S_ISREG(mode):
            entry = Entry(path, "file", mode & 0o777, info.st_size, mtime, self._digest(path, info))
            self.found.identities[path] = (info.st_ino, info.st_dev)
        elif stat.S_ISDIR(mode):
            # The owner can enter and change every directory: else it could be neither updated nor deleted.
            entry = Entry(path, "dir", (mode & 0o777) | 0o700, 0, mtime)
        elif stat.S_ISLNK(mode):
            entry = Entry(path, "link", 0o777, 0, mtime, self._target(path))
        else:
            entry = Entry(path, "special", 0)
        if (stat.S_ISREG(mode) and mode & 0o7000) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            self.special.append(path)
        self.found.entries.append(entry)

    def _target(self, path: str) -> str:
        try:
            # Not by pathlib, which would turn ./b and b/ into b.
            return os.readlink(f"{self.root}/{path}")  # noqa: PTH115
        except OSError as error:
            raise changed(path, str(error)) from error

    def _digest(self, path: str, info: os.stat_result) -> str:
        """From memory; "" where it has to be read."""
        file = f"{path}\0{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_ino} {info.st_dev}"
        if known := self.before.pop(file, ""):
            self.after[file] = known
            return known
        settled = max(info.st_mtime_ns, info.st_ctime_ns) < self.settled
        self.unread.append((len(self.found.entries), file if settled else ""))
        return ""

    def _read_all(self) -> None:
        entries = self.found.entries
        slices = [self.unread[i : i + SLICE] for i in range(0, len(self.unread), SLICE)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for some, read in zip(slices, pool.map(self._read, slices), strict=True):
                for (at, file), (digest, is_pointer) in zip(some, read, strict=True):
                    entries[at] = entries[at]._replace(content=digest)
                    if is_pointer:
                        self.found.pointers.append(entries[at].path)
                    elif file:  # a pointer is to be seen again the next time
                        self.after[file] = digest

    def _read(self, some: Sequence[tuple[int, str]]) -> list[tuple[str, bool]]:
        digests = []
        for at, _ in some:
            entry = self.found.entries[at]
            try:
                handle = open_file(f"{self.root}/{entry.path}", self.found.identities[entry.path], entry.size)
                with os.fdopen(handle, "rb", buffering=0) as file:
                    first = file.read(POINTER_MAX) if entry.size < POINTER_MAX else b""
                    file.seek(0)
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                digests.append((digest, first.startswith(POINTER)))
            except PermissionError as error:
                raise SourceError(
                    f"{entry.path!r} can't be read.", str(error), "Check its permissions, or exclude it."
                ) from error
            except OSError as error:
                raise changed(entry.path, str(error)) from error
        return digests


def changed(path: str, why: str) -> SourceError:
    """The error for a path that is no longer what was scanned."""
    return SourceError(
        f"{path!r} changed while it was deployed.", why, "Let the build finish before the deployment starts."
    )


def problems(found: Found, shared: Iterable[str], root: Path) -> list[str]:
    """What can't be deployed, a line each; what is only worth knowing goes to the notes."""
    entries = {entry.path: entry for entry in found.entries}
    lines, loops = [], []
    shared = tuple(shared)
    for entry in found.entries:
        if entry.kind == "special":
            lines.append(f"{entry.path!r} is neither a file, a directory nor a symlink")
        elif entry.kind == "link":
            reason = follow(entry, entries, shared)
            if reason == LOOP:
                loops.append(entry.path)
            elif reason:
                lines.append(f"{entry.path!r} -> {entry.content!r} {reason}")
    if loops:
        found.notes.append(f"links that lead in a circle, so that nobody can open them: {shorten(loops)}")
    lines += [f"{path!r} is a pointer of Git LFS, not the content it stands for" for path in found.pointers]
    lines += [f"{path!r} is a submodule whose content is not there" for path in _empty_modules(entries, root)]
    for path in shared:
        for parent in parents(path):
            above = entries.get(parent)
            if above and above.kind != "dir":
                lines.append(f"{parent!r} is a {above.kind}, but {path!r} below it is to be shared")
    return lines


LOOP = "leads in a circle"


def follow(link: Entry, entries: Mapping[str, Entry], shared: Sequence[str] = ()) -> str:
    """Why a link, followed through others, leads out of the source or nowhere ("": it stays inside).

    shared: paths that are links out of the release on the host, so that `..` from there leads elsewhere.
    """
    if link.content.startswith("/"):
        return "is absolute: it would point elsewhere on the host"
    at = link.path.split("/")[:-1]
    due, hops = link.content.split("/")[::-1], 1
    while due:
        name = due.pop()
        if name in ("", "."):
            continue
        if name == "..":
            if not at or "/".join(at) in shared:
                return "leads out of the source"
            at.pop()
            continue
        at.append(name)
        met = entries.get("/".join(at))
        if met is None or met.kind != "link":
            continue
        hops += 1
        if hops > HOPS:
            return LOOP
        if met.content.startswith("/"):
            return f"leads out of the source, by {met.path!r}"
        at.pop()
        due += met.content.split("/")[::-1]
    return ""


def _empty_modules(entries: Mapping[str, Entry], root: Path) -> list[str]:
    """The submodules of a checkout that were never fetched."""
    found = []
    filled = {parent for path in entries for parent in [path.rpartition("/")[0]]}
    for path, entry in entries.items():
        if path.rpartition("/")[2] != ".gitmodules" or entry.kind != "file":
            continue
        try:
            handle = open_file(f"{root}/{path}", None, entry.size)
            with os.fdopen(handle, "rb") as file:
                text = file.read(1 << 20).decode("utf-8", "surrogateescape")
        except OSError as error:
            raise changed(path, str(error)) from error
        above = path.removesuffix(".gitmodules")
        modules = (above + module.strip("/") for module in _MODULE_PATH.findall(text))
        found += [m for m in modules if m in entries and entries[m].kind == "dir" and m not in filled]
    return found


def parents(path: str) -> Iterator[str]:
    """The folders above a path, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def shorten(paths: Sequence[str]) -> str:
    """Some of the paths, and how many more there are."""
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(repr(path) for path in paths[:SHOWN]) + rest
