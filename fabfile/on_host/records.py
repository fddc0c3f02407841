"""Release records: what each release is, kept on the host."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import NoSuchRelease
from ..remote.answers import DIGITS, PATH_LIMIT, inside, json_object, plain, sha256
from ..remote.host import write_file
from ..remote.shell import quote
from .layout import RELEASE_ID, Layout, sort_key

BUILDING, READY, LIVE, GOOD, FAILED, BAD = "building", "ready", "live", "good", "failed", "bad"
LIST = ("releases",)  # the task that lists them
STATES = (BUILDING, READY, LIVE, GOOD, FAILED, BAD)
LIMIT = 64 << 10  # bytes of a record; ours have about 500, and some more for each shared path
LINE = 400  # characters of a field that is shown

# What becomes of a release that is replaced: one that was only ready has never proved itself.
NOT_LIVE_ANY_MORE = {LIVE: GOOD, GOOD: GOOD, READY: BAD}


@dataclass(frozen=True)
class Record:
    """One release. `state`: building, ready (built and verified), live, good (was live), failed
    (never went live), bad (went live and was switched back). Times are UTC, ISO 8601; bytes are of content.
    """

    id: str
    state: str
    revision: str
    created: str
    deployed_by: str
    bytes: int = 0
    strategy: str = ""
    shared: list[str] = field(default_factory=list)
    # Somebody rolled back from it, and deployed another since: it was bad. A plain rollback passes it over.
    left: bool = False
    before: str | None = None  # what `current` said when the deployment began
    note: str = ""  # why it is bad, where the host itself decided that
    manifest: str = ""  # the sha256 of its manifest's text
    seal: str = ""  # see release.proof.seal: taken when it was built, before anybody could touch it

    def become(self, state: str) -> Record:
        """The same with another state."""
        return replace(self, state=state)

    def dumps(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def loads(cls, text: str, folder: str) -> Record:
        """Read what `dumps` wrote, and pass over keys of later versions. folder: the name of the directory
        that it was found in, which must be the release's id. Raises ValueError on anything else.
        """
        data = json_object(text, LIMIT)
        record = cls(
            **{key: read(data.get(key)) for key, read in _FIELDS.items() if key in {*data, *_NEEDED}}
        )
        if record.id != folder:
            raise ValueError(f"the record of {record.id[:40]!r} in the folder {folder[:40]!r}")
        return record


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"not one of {', '.join(allowed)}: {str(value)[:40]!r}")
        return str(value)

    return read


def _id(value: Any) -> str:
    if not isinstance(value, str) or not RELEASE_ID.fullmatch(value):
        raise ValueError(f"not a release's id: {str(value)[:40]!r}")
    return value


def _line(value: Any) -> str:
    return plain(value, LINE)


def _bytes(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**DIGITS:
        raise ValueError("not a number of bytes")
    return value


def _paths(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise ValueError("not a list of paths")
    return [inside(path) for path in value]


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("neither true nor false")
    return value


def _target(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= PATH_LIMIT and "\0" not in value):
        return value
    raise ValueError("not a link's target")


def _digest(value: Any) -> str:
    return sha256(value) if isinstance(value, str) and value else _one_of("")(value)


_NEEDED = ("id", "state", "revision", "created", "deployed_by")
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "id": _id,
    "state": _one_of(*STATES),
    "revision": _line,
    "created": _line,
    "deployed_by": _line,
    "bytes": _bytes,
    "strategy": _line,
    "shared": _paths,
    "left": _flag,
    "before": _target,
    "note": _line,
    "manifest": _digest,
    "seal": _digest,
}


def write(layout: Layout, *records: Record) -> str:
    """Commands that write these records, each by temp + rename."""
    parts = []
    for record in records:
        folder = layout.state_of(record.id)
        text = write_file(f"{folder}/record.json", f"{record.dumps()}\n")
        parts.append(f"( umask 077; mkdir -p {quote(folder)} && {text} )")
    return " && ".join(parts) or ":"


def interrupted(records: Mapping[str, Record], revision: str) -> list[Record]:
    """Deployments of `revision` that were neither finished nor given up, oldest first."""
    open_ones = [r for r in records.values() if r.state in (BUILDING, READY) and r.revision == revision]
    return sorted(open_ones, key=lambda r: sort_key(r.id))


def rollback_target(records: Mapping[str, Record], live: str | None, wanted: str | None) -> Record:
    """The release to go back to: `wanted`, or the newest good one before `live`. Raises NoSuchRelease."""
    if wanted is not None:
        return _named(records, live, wanted)
    good = [r for r in records.values() if r.state == GOOD and not r.left]
    before = [r for r in good if live is None or sort_key(r.id) < sort_key(live)]
    if not before:
        listed = ", ".join(f"{r.id} ({r.state})" for r in records.values()) or "none"
        raise NoSuchRelease(
            "There is no good release before the live one.",
            f"live: {live or 'none'}; releases: {listed}",
            "Name one with --to ID, or deploy an older revision with --ref. This lists the releases:",
            task=LIST,
        )
    return max(before, key=lambda r: sort_key(r.id))


def _named(records: Mapping[str, Record], live: str | None, wanted: str) -> Record:
    good = ", ".join(r.id for r in records.values() if r.state == GOOD) or "none"
    found = records.get(wanted)
    if wanted == live:
        raise NoSuchRelease(f"{wanted} is live already.", "", f"Good releases: {good}")
    if found is None:
        raise NoSuchRelease(
            f"There is no release {wanted}.", f"good releases: {good}", "This lists them:", task=LIST
        )
    if found.state != GOOD:
        raise NoSuchRelease(
            f"{wanted} is not a release to go back to.",
            f"its state is {found.state}; good releases: {good}",
            "Only a release that was live and in order can be rolled back to.",
        )
    return found


def to_remove(records: Mapping[str, Record], keep: int, live: str, before: str | None) -> list[Record]:
    """What retention removes: good releases past the newest `keep` (the live one counts), and every
    failed or bad one; never the live one, nor the one live before it.
    """
    spared = {live, before}
    ranked = sorted((r for r in records.values() if r.state in (GOOD, LIVE)), key=lambda r: sort_key(r.id))
    kept = {r.id for r in ranked[-keep:]} | spared
    broken = [r for r in records.values() if r.state in (FAILED, BAD, BUILDING, READY) and r.id not in spared]
    return [r for r in ranked if r.id not in kept] + broken
