"""A manifest: what a tree holds, so that two trees can be compared without reading them.

On the host it is a text: a header with the number of entries, then a line an entry, in any order,
of fields apart by tabs: kind, mode (octal), size, mtime (Unix seconds), content, path.
`content` is a file's sha256, a link's target, and nothing for a directory. Backslash, tab, newline and
carriage return are escaped.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from ..remote.answers import inside

HEADER = "switchover manifest 1"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_ODD = re.compile(r"[\\\t\n\r]")
ENTRIES = 150_000  # of a manifest that is nothing like ours: more would fill the memory
TEXT_LIMIT = 16 << 20  # bytes of a text about a tree that is nothing like ours: about 100,000 paths
TYPICAL = 256  # bytes a path; where our own tree has more paths, so may the host's text
_AT_ONCE = 4096  # entries whose lines are made together, which takes a third of the time
_PLAIN = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


def text_limit(paths: int) -> int:
    """The bytes that a host may say about a tree, where our own has so many paths: more fills the memory."""
    return TEXT_LIMIT + 2 * TYPICAL * paths


class Entry(NamedTuple):
    """One path of a tree; `path` is relative, with /; bytes that aren't UTF-8 are surrogates."""

    path: str
    kind: str  # file | dir | link
    mode: int
    size: int = 0
    mtime: int = 0
    content: str = ""

    def same_as(self, other: Entry) -> bool:
        """Whether deploying one over the other would change nothing. Times do not count."""
        return self.same_shape(other) and self.content == other.content

    def same_shape(self, other: Entry) -> bool:
        """The same as far as a listing shows: kind, mode, size, a link's target; not a file's content."""
        if self.kind != other.kind:
            return False
        if self.kind == "link":
            return self.content == other.content
        if self.kind == "dir":
            return self.mode & 0o777 == other.mode & 0o777  # a setgid parent hands its bit down
        return self.mode == other.mode and self.size == other.size


@dataclass(frozen=True)
class Difference:
    """What must happen to a tree to become another one. `deleted` has the old entries."""

    added: list[Entry] = field(default_factory=list)
    changed: list[Entry] = field(default_factory=list)
    deleted: list[Entry] = field(default_factory=list)

    @property
    def written(self) -> list[Entry]:
        """The new entries, sorted by path."""
        return sorted(self.added + self.changed, key=lambda e: e.path)

    @property
    def uploads(self) -> list[Entry]:
        """What must travel: files and links."""
        return [entry for entry in self.written if entry.kind != "dir"]

    @property
    def size(self) -> int:
        """Bytes of content to upload, before compression."""
        return sum(entry.size for entry in self.uploads)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.deleted)


class Manifest:
    """The entries of one tree by path."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: dict[str, Entry] = {entry.path: entry for entry in entries}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, path: str) -> Entry | None:
        """The entry at `path`, if there is one."""
        return self.entries.get(path)

    @property
    def size(self) -> int:
        """All content, in bytes."""
        return sum(entry.size for entry in self)

    def difference(self, wanted: Manifest, doubtful: Iterable[str] = ()) -> Difference:
        """How this tree becomes `wanted`; paths in `doubtful` may hold anything, or nothing."""
        unsure = set(doubtful)
        added, changed = [], []
        for path, entry in wanted.entries.items():
            old = self.entries.get(path)
            if path in unsure:
                changed.append(entry)
            elif old is None:
                added.append(entry)
            elif old is not entry and not old.same_as(entry):
                changed.append(entry)
        gone = {path: self.entries[path] for path in self.entries.keys() - wanted.entries.keys()}
        for path in unsure:
            if wanted.get(path) is None:
                gone.setdefault(path, Entry(path, "file", 0))
        return Difference(added, changed, sorted(gone.values(), key=lambda e: e.path))

    def revision(self) -> str:
        """A name for exactly this content: `tree-` and 16 hex digits; times do not count."""
        digest = hashlib.sha256()
        for _, text in _texts(sorted(self, key=lambda e: e.path), times=False):
            digest.update(text)
        return f"tree-{digest.hexdigest()[:16]}"

    def after(self, difference: Difference) -> Manifest:
        """With `difference` made: what stays keeps its line and place, what is written comes last."""
        gone = {entry.path for entry in (*difference.deleted, *difference.written)}
        return Manifest([*(entry for entry in self if entry.path not in gone), *difference.written])

    def dumps(self) -> bytes:
        """As the host keeps it."""
        whole = io.BytesIO()
        whole.write(f"{header(len(self))}\n".encode())
        whole.writelines(text for _, text in _texts(self))
        return whole.getvalue()

    @cached_property
    def _by_line(self) -> dict[bytes, Entry]:
        return {
            raw: entry
            for some, text in _texts(self)
            for raw, entry in zip(text.splitlines(keepends=True), some, strict=True)
        }

    @classmethod
    def loads(cls, data: bytes, like: Manifest | None = None) -> Manifest:
        """Read what `dumps` wrote. Raises ValueError on anything else: a path that leads outside or is there
        twice, one below what is no directory, another number of entries, or more than a host can have of us.

        like: one that is much the same; equal entries are shared with it, which saves time and memory.
        """
        lines = io.BytesIO(data)
        count = _count(next(lines, b""))
        if count > ENTRIES + 2 * len(like or ()):
            raise ValueError(f"a manifest of {count} entries")
        known = like._by_line if like else {}
        entries: dict[str, Entry] = {}
        for raw in islice(lines, count):
            entry = known.get(raw) or _entry(raw.decode("utf-8", "surrogateescape"))
            entries[entry.path] = entry
        if len(entries) != count or lines.read(1):
            raise ValueError("not a whole manifest")
        for folder in _folders(entries):
            if folder in entries and entries[folder].kind != "dir":
                raise ValueError(f"paths below {folder[:80]!r}, which is no directory")
        made = cls()
        made.entries = entries
        return made


@dataclass(frozen=True)
class RemoteContents:
    """What a directory on the host holds as far as we know: its manifest (None: nothing is known), the paths
    that a cut upload may have left in any state, and the sha256 of the manifest's text on the host ("": there
    is no such text).
    """

    manifest: Manifest | None = None
    doubtful: frozenset[str] = frozenset()
    digest: str = ""

    @property
    def trusted(self) -> Manifest:
        """What is there for sure."""
        return Manifest(entry for entry in self.manifest or () if entry.path not in self.doubtful)

    def difference(self, wanted: Manifest) -> Difference:
        """What must be done to become `wanted`."""
        return (self.manifest or Manifest()).difference(wanted, self.doubtful)


def escape(text: str) -> str:
    """Make `text` fit into one field of one line."""
    return text.translate(_ESCAPES) if _ODD.search(text) else text


def unescape(text: str) -> str:
    """Undo `escape`."""
    if "\\" not in text:
        return text
    parts, i = [], 0
    while i < len(text):
        pair = text[i : i + 2]
        parts.append(_PLAIN.get(pair, text[i]))
        i += 2 if pair in _PLAIN else 1
    return "".join(parts)


def line(entry: Entry) -> str:
    """An entry's line."""
    return _line(_escaped(entry), entry.mtime).removesuffix("\n")


def header(entries: int) -> str:
    """The first line of a manifest of so many."""
    return f"{HEADER}\t{entries}"


def _texts(entries: Iterable[Entry], *, times: bool = True) -> Iterator[tuple[list[Entry], bytes]]:
    """Some entries at a time, and the lines of these. Without `times` each mtime is 0."""
    rest = iter(entries)
    while some := list(islice(rest, _AT_ONCE)):
        text = "".join([_line(entry, entry.mtime if times else 0) for entry in some])
        plain = text.count("\t") == 5 * len(some) and text.count("\n") == len(some)
        if not plain or "\\" in text or "\r" in text:
            text = "".join([_line(_escaped(entry), entry.mtime if times else 0) for entry in some])
        yield some, text.encode("utf-8", "surrogateescape")


def _escaped(entry: Entry) -> Entry:
    return entry._replace(content=escape(entry.content), path=escape(entry.path))


def _line(entry: Entry, mtime: int) -> str:
    path, kind, mode, size, _, content = entry
    return f"{kind}\t{mode:o}\t{size}\t{mtime}\t{content}\t{path}\n"


_NUMBER = "(?:0|[1-9][0-9]{0,17})"
_COUNT = re.compile(f"{HEADER}\t({_NUMBER})\n".encode())
_ROW = re.compile(
    rf"(?:file\t[0-7]{{1,4}}\t{_NUMBER}\t-?{_NUMBER}\t[0-9a-f]{{64}}"
    rf"|dir\t[0-7]{{1,4}}\t{_NUMBER}\t-?{_NUMBER}\t"
    rf"|link\t[0-7]{{1,4}}\t{_NUMBER}\t-?{_NUMBER}\t[^\t\n\0]{{1,8192}})\t[^\t\n\0]{{1,8192}}\n"
)


def _count(first: bytes) -> int:
    found = _COUNT.fullmatch(first)
    if found is None:
        raise ValueError("not a manifest")
    return int(found[1])


def _entry(row: str) -> Entry:
    if not _ROW.fullmatch(row):
        raise ValueError(f"not a line of a manifest: {row[:80]!r}")
    kind, mode, size, mtime, content, path = row[:-1].split("\t")
    name = inside(unescape(path))
    return Entry(name, sys.intern(kind), int(mode, 8), int(size), int(mtime), unescape(content))


def _folders(paths: Iterable[str]) -> set[str]:
    """All the directories that these paths are in."""
    found: set[str] = set()
    level = {posixpath.dirname(path) for path in paths} - {""}
    while level:
        found |= level
        level = {posixpath.dirname(path) for path in level} - found - {""}
    return found
