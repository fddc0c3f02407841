"""A commit of a git repository as a folder, with its submodules and LFS content.

Git itself writes the tree (`git archive`: .gitattributes hold, as in a checkout), but only what was listed
and checked before is taken from it, and each file, link and folder is made anew: nothing is written through
a link, and nothing outside.
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from ...errors import SourceError
from . import filters, repository, submodules
from .repository import Repository

MAX_ENTRIES = 1_000_000  # of one tree: a small repository can name any number
MAX_LISTING = 256 << 20  # bytes
LINK_MAX = 4095  # bytes; Linux' PATH_MAX
TIME_MAX = 2**32 - 1  # Unix seconds
DEPTH = 10  # of submodules in submodules
SHOWN = 10  # paths named in a message
BLOCK = 1 << 18  # bytes

KINDS = {"100644": "file", "100664": "file", "100755": "program", "120000": "link", "040000": "dir"}
SUBMODULE = "160000"
# Code points that HFS+ leaves out of names (git's utf8.c, next_hfs_char).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")

Skip = Callable[[str], bool]


class Listed(NamedTuple):
    """What a tree has at a path. kind: one of KINDS' values, or "submodule"."""

    kind: str
    id: str


class Exported(NamedTuple):
    """What became of an export. said: what git had to say, such as why LFS content is missing."""

    commit: str
    said: str


def export(address: str, ref: str | None, subdir: str, folder: Path, scratch: Path, skip: Skip) -> Exported:
    """Write `subdir` of a commit of the repository at `address` into the new folder `folder`.

    skip: whether a path (of a submodule, relative to `folder`) is not wanted. scratch: an empty folder.
    Raises SourceError, naming each path that can't be deployed.
    """
    path = Path(address)
    if path.is_dir():
        source = repository.borrow(repository.find(path), scratch / "0.git")
    else:
        source = repository.fetch(address, ref, scratch / "0.git")
    commit = repository.commit_of(source, ref)
    folder.mkdir()
    job = _Export(scratch, skip)
    with tempfile.TemporaryFile(dir=scratch) as said:
        job.said = said
        try:
            job.write(source, commit, subdir.strip("/"), folder, "")
        except OSError as error:
            raise SourceError("The source can't be exported.", str(error), "Free some space here.") from error
        return Exported(commit, job.words())


class _Export:
    """One export, with the submodules in it."""

    said: IO[bytes]

    def __init__(self, scratch: Path, skip: Skip) -> None:
        self.scratch = scratch
        self.skip = skip
        self.number = 0

    def words(self) -> str:
        """What git has said."""
        self.said.seek(0)
        return self.said.read(repository.SAID).decode("utf-8", "replace").strip()

    def _new_folder(self) -> Path:
        self.number += 1
        return self.scratch / f"{self.number}.git"

    def write(
        self, source: Repository, commit: str, subdir: str, folder: Path, above: str, depth: int = 0
    ) -> None:
        """Write a tree. above: the path of `folder` in the whole export, with / behind it."""
        listing = list_tree(source, commit, subdir)
        attributes = [entry.id for path, entry in listing.items() if path.split("/")[-1] == ".gitattributes"]
        filters.prepare(source, commit, attributes)
        made = self._unpack(source, commit, subdir, folder, listing)
        due = [
            path for path in made if listing[path].kind == "submodule" and not self.skip(above + path + "/")
        ]
        if not due:
            return
        known = submodules.named(source, commit)
        problems = []
        for path in due:
            whole = f"{subdir}/{path}" if subdir else path
            oid = listing[path].id
            try:
                if depth >= DEPTH:
                    raise SourceError("It lies too deep.")
                module = submodules.find(source, known.get(whole), whole, oid, self._new_folder)
                self.write(module, oid, "", folder / path, f"{above}{path}/", depth + 1)
            except SourceError as error:
                problems.append(f"{above + path!r} is a submodule: {error.what} {error.why}")
        if problems:
            raise SourceError(
                "The content of submodules can't be had.",
                "\n".join(problems[:SHOWN]),
                "List the paths under `exclude`, make their addresses reachable from here, or run this in "
                "the local repository that is deployed:\ngit submodule update --init --recursive",
            )

    def _unpack(
        self, source: Repository, commit: str, subdir: str, folder: Path, listing: dict[str, Listed]
    ) -> list[str]:
        """The directories that were made."""
        words = ["-c", "tar.umask=0022", "archive", "--format=tar", commit, *([subdir] if subdir else [])]
        made: list[str] = []
        broken: Exception | None = None
        with source.printing(*words, said=self.said) as printed:
            try:
                with tarfile.open(
                    fileobj=printed, mode="r|", encoding="utf-8", errors="surrogateescape"
                ) as archive:
                    while (member := archive.next()) is not None:
                        path = _inside(member.name, subdir)
                        if path and _place(archive, member, path, f"{folder}/{path}", listing):
                            made.append(path)
                        archive.members.clear()  # type: ignore[attr-defined]  # else it remembers all
            except (tarfile.TarError, UnicodeError) as error:
                broken = error  # if git has failed, what it says is the cause
            while printed.read(BLOCK):
                pass
        if broken is not None:
            raise SourceError("git's archive can't be read.", str(broken))
        return made


def list_tree(source: Repository, commit: str, subdir: str = "") -> dict[str, Listed]:
    """What a commit holds, by path relative to `subdir`. Raises SourceError, naming what is refused."""
    words = ["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", commit, *([f"{subdir}/"] if subdir else [])]
    with tempfile.TemporaryFile(dir=source.folder) as said, source.printing(*words, said=said) as printed:
        data = printed.read(MAX_LISTING)
        too_large = bool(printed.read(1)) or data.count(b"\0") > MAX_ENTRIES
        while printed.read(BLOCK) and not too_large:
            pass
        if too_large:
            raise SourceError(
                f"The source has more than {MAX_ENTRIES} paths.", "", "Set source.subdir to what is deployed."
            )
    found: dict[str, Listed] = {}
    problems = []
    for record in os.fsdecode(data).split("\0")[:-1]:
        about, _, whole = record.partition("\t")
        mode, _, oid, size = about.split()
        path = _inside(whole, subdir)
        if not path:
            continue
        entry = Listed("submodule" if mode == SUBMODULE else KINDS.get(mode, ""), oid)
        if reason := _refused(path, entry, size, found):
            problems.append(f"{whole!r} {reason}")
        found[path] = entry
    if problems:
        more = f"\nand {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise SourceError(
            "The repository holds what can't be deployed.",
            "\n".join(problems[:SHOWN]) + more,
            "Nothing was written. Git itself would not check this out; ask where this commit comes from.",
        )
    if subdir and not found:
        raise SourceError(
            "git can't give the source.",
            f"{commit} has no folder {subdir!r}",
            "Check source.subdir and --ref.",
        )
    return found


def _refused(path: str, entry: Listed, size: str, found: dict[str, Listed]) -> str:
    parent, _, _ = path.rpartition("/")
    if not entry.kind:
        return "is of no kind that git knows"
    if path in found:
        return "is there twice"
    if not all(map(_good_name, path.split("/"))):
        return "has a name that leads elsewhere"
    if parent and found.get(parent, Listed("", "")).kind != "dir":
        return f"lies below {parent!r}, which is no folder"
    if entry.kind == "link" and size.isdigit() and not 0 < int(size) <= LINK_MAX:
        return f"is a link whose target has {size} bytes"
    return ""


@lru_cache(maxsize=65536)
def _good_name(name: str) -> bool:
    """Whether git would check it out, also where names are as on macOS and Windows (git's verify_path)."""
    if name in ("", ".", ".."):
        return False
    plain = _HFS_IGNORED.sub("", name).split(":")[0].rstrip(". ").lower()
    return plain not in (".git", "git~1")


def _inside(path: str, subdir: str) -> str:
    """The path relative to `subdir`; "" for what lies outside of it."""
    path = path.removesuffix("/")
    if not subdir:
        return path
    return path[len(subdir) + 1 :] if path.startswith(f"{subdir}/") else ""


def _place(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, where: str, listing: dict[str, Listed]
) -> bool:
    """Make what a member of the archive says, where nothing is yet; whether it is a folder.

    Each parent was made here as a folder, in a folder where nobody else writes, so none is a link.
    """
    wanted = listing.get(path, Listed("", "")).kind
    try:
        if member.isdir() and wanted in ("dir", "submodule"):
            os.mkdir(where)  # noqa: PTH102  (Paths take their time)
            os.chmod(where, 0o755)  # noqa: PTH101
            return True
        if member.issym() and wanted == "link":
            os.symlink(member.linkname, where)  # noqa: PTH211
        elif member.isreg() and wanted in ("file", "program"):
            _write(archive, member, where, 0o755 if wanted == "program" else 0o644)
        else:
            raise SourceError(
                "git's archive is not what git listed.", f"{path!r} is a {wanted or 'stranger'}"
            )
    except FileExistsError as error:
        raise SourceError(
            "The repository holds what can't be deployed.",
            f"{path!r} is there already: this file system takes two names for one",
            "Rename one of the two.",
        ) from error
    return False


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str, mode: int) -> None:
    content = archive.extractfile(member)
    assert content is not None
    handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as file:
        left = member.size
        while left:
            block = content.read(min(BLOCK, left))
            if not block:
                raise SourceError("git's archive ends too early.", f"in {member.name!r}")
            file.write(block)
            left -= len(block)
        os.fchmod(handle, mode)
        time = min(max(0, int(member.mtime)), TIME_MAX)
        os.utime(handle, (time, time))
