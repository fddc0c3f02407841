"""What stands on the host about its deployments: all state is kept there, and read in one command."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import AnswerNotUnderstood, HostNotReady
from ..local import local_cache
from ..remote.answers import decimal, inside, not_understood, sha256
from ..remote.files import Space, parse_space
from ..remote.host import Host
from ..remote.script_files import Scripts
from ..remote.shell import Result, Script, failed, quote
from .layout import OWN, RELEASE_ID, Layout
from .manifest import ENTRIES, Manifest, RemoteContents, text_limit, unescape
from .records import LIMIT, Record
from .went_back import WentBack

_scripts = Scripts(__package__)


class StoredManifest(NamedTuple):
    """A manifest that the host keeps, unread. digest: the sha256 of its text, "" where the host can't tell;
    doubtful: the paths that a cut upload may have left in any state.
    """

    digest: str = ""
    doubtful: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """current_kind: link, none, dir or file. target: what the link says. leads: whether that is a directory.
    directories: the ids in releases/ that are directories; others: those that are something else.
    incoming, jobs: what interrupted commands have left: staging directories, and jobs, running or not.
    own_kind, cache_kind: what .switchover and cache/ are.
    damaged: ids whose records can't be read; these are left alone.
    odd: what a person should be told. went_back: what a dead man's switch has done, as long as no command has
    ended well since. key: what only this account can know, "" where there is none.
    manifests: what is kept about the cache and the live release, unread.
    """

    layout: Layout
    current_kind: str
    target: str | None
    leads: bool
    directories: frozenset[str]
    others: frozenset[str]
    records: dict[str, Record]
    shared_present: frozenset[str]
    space: Space | None
    incoming: frozenset[str]
    jobs: frozenset[str]
    deploy_to_kind: str
    own_kind: str
    cache_kind: str
    damaged: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    went_back: WentBack | None = None
    key: str = field(default="", repr=False)
    manifests: dict[str, StoredManifest] = field(default_factory=dict)

    @property
    def live(self) -> str | None:
        """The id of the release that `current` points at; None where it points at none, or elsewhere."""
        return self.layout.release_in(self.target)

    @property
    def shown(self) -> str:
        """What is live, for a person."""
        return self.live or self.target or "nothing"

    @property
    def taken(self) -> frozenset[str]:
        """The ids that no new release may have."""
        return self.directories | self.others | frozenset(self.records) | frozenset(self.damaged)

    def require_link(self, layout: Layout) -> None:
        """Raise HostNotReady when `current` is something that no rename could replace, or .switchover is
        not a directory.
        """
        if self.own_kind not in ("dir", "none"):
            raise not_ours(layout.own, f"it is a {self.own_kind}, not a directory")
        if self.current_kind in ("link", "none"):
            return
        what = "directory" if self.current_kind == "dir" else "file"
        kept = f"{layout.deploy_to}/current.before-switchover"
        raise HostNotReady(
            f"{layout.current} is a real {what}, not a symlink.",
            "Switchover replaces one symlink; it does not remove what somebody else put there.",
            "Choose another deploy_to, or move it away on the host; the site is down from then on until the "
            f"next deployment:\nmv {quote(layout.current)} {quote(kept)}",
        )


def not_ours(path: str, why: str) -> HostNotReady:
    """The error where a place for our own state is something that somebody else has made."""
    return HostNotReady(
        f"{path} can't be trusted with what deployments rely on.",
        why,
        f"See on the host what it is, then remove it or make it this account's:\nls -ld {quote(path)}",
    )


def asking(layout: Layout, shared: Iterable[str] = ()) -> Script:
    """What reads the state, for a batch; its output is for parse(). Changes nothing."""
    return Script(f"Reading {layout.deploy_to}", _script(layout, tuple(shared)), needed=False)


def parse(result: Result, what: str, layout: Layout) -> State:
    """The state, from what asking() printed. Raises CommandFailed where that failed, AnswerNotUnderstood
    where that is not what it prints.
    """
    if result.status != 0:
        raise failed(what, result)
    rows = result.out.count(b"\n")
    if len(result.out) > STATE_LIMIT or rows > 2 * ENTRIES:
        said = f"{rows} lines, {len(result.out)} bytes"
        raise not_understood(what, said, f"See how much is in {layout.own} and {layout.releases} there.")
    try:
        return _State(layout, result.text).read()
    except (ValueError, KeyError, IndexError) as error:
        odd = not_understood(what, result.text)
        raise AnswerNotUnderstood(odd.what, f"{error}; {odd.why}", odd.hint) from error


KINDS = ("link", "dir", "file", "none")
STATE_LIMIT = 16 << 20  # bytes
TOUCHED_LIMIT = 8 << 20  # bytes
PACKING = 1 << 20  # bytes that gzip may add to what does not get smaller
MANIFEST_LIMIT = 512 << 20  # bytes; a larger one is not even read on the host, to know its sha256


class _State:
    """Reads the rows that the script prints: a word, and fields apart by tabs. Names that could hold anything
    are left out there, but for the link's target, which stands last, behind a mark that nobody knew.
    """

    def __init__(self, layout: Layout, text: str) -> None:
        self.layout = layout
        first, _, rest = text.partition("\n")
        if not re.fullmatch("[0-9a-f]{16}", first):
            raise ValueError("it does not begin as it should")
        body, self.target, end = rest.split(first)
        if end != "\n" or body[-1:] not in ("", "\n"):
            raise ValueError("it does not end as it should")
        self.rows: dict[str, list[list[str]]] = {word: [] for word in _WORDS}
        for line in body.split("\n")[:-1]:
            word, *fields = line.split("\t", _WORDS[line.partition("\t")[0]])
            self.rows[word].append(fields)

    def read(self) -> State:
        kind, leads = self.only("current")
        records, damaged = self.records()
        odd = [f"{decimal(count)} entries of {where} are not ours: they are left alone"
               for where, count in self.rows["odd"] if count != "0"]  # fmt: skip
        went_back = self.went_back()
        odd += [str(went_back)] if went_back else []
        return State(
            self.layout,
            _one(kind, KINDS),
            self.target if kind == "link" else None,
            _one(leads, ("yes", "no")) == "yes",
            frozenset(_id(name) for name, what in self.rows["release"] if what == "dir"),
            frozenset(_id(name) for name, what in self.rows["release"] if what != "dir"),
            records,
            frozenset(path for (path,) in self.rows["shared"]),
            self.space(odd),
            frozenset(_name(name) for (name,) in self.rows["incoming"]),
            frozenset(_name(name) for (name,) in self.rows["jobs"]),
            _one(self.only("root")[0], KINDS),
            _one(self.only("own")[0], KINDS),
            _one(self.only("cache")[0], KINDS),
            tuple(damaged),
            tuple(odd),
            went_back,
            next((key for (key,) in self.rows["key"] if re.fullmatch("[0-9a-f]{32}", key)), ""),
            {place: self.kept(place, digest) for place, digest in self.rows["manifest"]},
        )

    def only(self, word: str) -> list[str]:
        (fields,) = self.rows[word]
        return fields

    def records(self) -> tuple[dict[str, Record], list[str]]:
        """The records by id, and the ids of those that can't be read."""
        texts: dict[str, list[str]] = {}
        for name, text in self.rows["record"]:
            texts.setdefault(name, []).append(text)
        records: dict[str, Record] = {}
        damaged = []
        for name in sorted(_id(name) for (name,) in self.rows["recorded"]):
            try:
                (text,) = texts.get(name, [])
                records[name] = Record.loads(text, name)
            except ValueError:
                damaged.append(name)
        return records, damaged

    def space(self, odd: list[str]) -> Space | None:
        rows = [row for (row,) in self.rows["df"]]
        try:
            return parse_space("\n".join(rows)) if rows else None
        except AnswerNotUnderstood as error:
            odd.append(f"the room there is not known: {error.what} {error.why}")
            return None

    def went_back(self) -> WentBack | None:
        for (line,) in self.rows["back"]:
            with contextlib.suppress(ValueError):  # somebody else has written there: it blocks nothing
                return WentBack.loads(line)
        return None

    def kept(self, place: str, digest: str) -> StoredManifest:
        doubtful = paths_in_doubt(path for where, path in self.rows["touched"] if where == place)
        if doubtful is None:
            return StoredManifest()
        return StoredManifest(sha256(digest) if digest else "", doubtful)


# The rows, by their first word, with how many fields follow it.
_WORDS = {
    "root": 1, "own": 1, "cache": 1, "current": 2, "release": 2, "recorded": 1, "record": 2, "odd": 2,
    "incoming": 1, "jobs": 1, "df": 1, "manifest": 2, "touched": 2, "shared": 1,
    "back": 1, "key": 1,
}  # fmt: skip


def _one(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{value[:40]!r} is none of {', '.join(allowed)}")
    return value


def _id(name: str) -> str:
    if not RELEASE_ID.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is not a release's id")
    return name


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}", name):
        raise ValueError(f"{name[:40]!r} is no name of ours")
    return name


def known(
    host: Host, folder: str, kept: StoredManifest | None, like: Manifest | None = None
) -> RemoteContents:
    """What a directory holds, by the manifest kept for it in `folder`. `kept`, where it is given, is what the
    state says of it; a manifest that we have met before is then not read again. like: see Manifest.loads.
    """
    if kept and kept.digest and (data := local_cache.manifest(kept.digest)):
        with contextlib.suppress(ValueError):  # then it is read afresh, and told of
            return RemoteContents(Manifest.loads(data, like), kept.doubtful, kept.digest)
    return read_manifest(host, folder, like)


def read_manifest(host: Host, folder: str, like: Manifest | None = None) -> RemoteContents:
    """Read the manifest kept in `folder`. Where there is none nothing is known; nor where it is damaged or
    larger than it can be, which is told.
    """
    name, doubt = quote(f"{folder}/manifest"), quote(f"{folder}/touched")
    limit = text_limit(len(like or ()))
    pack = "gzip -c" if host.has("gzip") else "cat"
    script = (
        f"[ -f {name} ] || exit 0; {{ [ -f {doubt} ] && cat {doubt}; printf '\\036'; cat {name}; }} |"
        f" head -c {limit + 1} | {pack}"
    )
    try:
        data = host.shell.run(script, what="Reading the manifest", most=limit + PACKING).out
        if not data:
            return RemoteContents()
        doubt_text, _, text = (_unpacked(data, limit) if host.has("gzip") else data).partition(b"\x1e")
        if len(doubt_text) > TOUCHED_LIMIT or doubt_text.count(b"\n") > ENTRIES:
            raise ValueError("more paths are in doubt than there can be")
        doubtful = paths_in_doubt(doubt_text.decode("utf-8", "surrogateescape").split("\n")[:-1])
        if doubtful is None:
            raise ValueError("it is not known which paths a cut upload has left")
        manifest = Manifest.loads(text, like)
    except (ValueError, AnswerNotUnderstood) as error:
        host.note(
            "warn", f"the manifest in {folder} can't be read, so nothing is known of what is there: {error}"
        )
        return RemoteContents()
    return RemoteContents(manifest, doubtful, local_cache.keep_manifest(text))


def _unpacked(data: bytes, limit: int) -> bytes:
    """What gzip made small. Raises ValueError where it is none of gzip's, or more than `limit` bytes."""
    import zlib

    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(data, limit)
    except zlib.error as error:
        raise ValueError(f"it does not unpack: {error}") from None
    if not unpacker.eof:
        raise ValueError("it does not end" if len(text) < limit else f"it has more than {limit} bytes")
    return text


def paths_in_doubt(lines: Iterable[str]) -> frozenset[str] | None:
    """The paths that `touched` names; None where it is damaged, so that nothing can be relied on."""
    try:
        return frozenset(inside(unescape(line)) for line in lines)
    except ValueError:
        return None


def _script(layout: Layout, shared: tuple[str, ...]) -> str:
    return _scripts(
        "read_state",
        *shared,
        root=layout.deploy_to,
        own=layout.own,
        name=OWN,
        mark=secrets.token_hex(8),
        record_blocks=LIMIT // 512 + 1,
        manifest_bytes=MANIFEST_LIMIT,
        touched_bytes=TOUCHED_LIMIT,
        touched_lines=ENTRIES,
    )
