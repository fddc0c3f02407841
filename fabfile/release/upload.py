"""Bring one directory on the host up to the source: transfer, apply, manifest."""

from __future__ import annotations

import gzip
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import ENGLISH, quote
from . import apply
from .manifest import Difference, Entry, Manifest, escape
from .observe import observe
from .source import Source
from .transfers import Tally, Transfer

RESUME_FROM = 8 << 20  # bytes that must have arrived for a file to be worth going on with


@dataclass(frozen=True)
class Known:
    """What a directory on the host holds as far as we know: its manifest (None: nothing is known),
    and the paths that a cut upload may have left in any state.
    """

    manifest: Manifest | None = None
    doubtful: frozenset[str] = frozenset()

    @property
    def trusted(self) -> Manifest:
        """What is there for sure."""
        return Manifest(entry for entry in self.manifest or () if entry.path not in self.doubtful)

    def difference(self, wanted: Manifest) -> Difference:
        """What must be done to become `wanted`."""
        return (self.manifest or Manifest()).difference(wanted, self.doubtful)


@dataclass(frozen=True)
class Place:
    """A directory to bring up to date, and where its manifest is kept ("" : nowhere).

    staging:  a directory on the same file system, for nothing but this source.
    begun:    whether an earlier command has left something of this very source in `staging`.
    """

    target: str
    state: str
    staging: str
    begun: bool = False


def bring(
    host: Host,
    jobs: Jobs,
    place: Place,
    known: Known,
    source: Source,
    transfer: Transfer,
    tally: Tally,
    *,
    wanted: Manifest | None = None,
) -> Difference:
    """Make `place.target` hold `wanted` (the source's manifest); what was done. Safe to run again.

    Where nothing is known of the target it is built anew beside it, and replaces it whole.
    """
    wanted = source.manifest if wanted is None else wanted
    difference = known.difference(wanted)
    if difference.uploads:
        fill(host, transfer, source, difference.uploads, place, tally)
    if place.state:
        _send_manifest(host, place.state, wanted)
    script = "\n".join([ENGLISH, "set -e", *_commands(place, known, difference)])
    jobs.run(f"apply-{posixpath.basename(place.staging)}", script, "Putting the upload in its place")
    return difference


def fill(
    host: Host, transfer: Transfer, source: Source, entries: Sequence[Entry], place: Place, tally: Tally
) -> None:
    """Bring `entries` into the staging directory. What arrived whole in an earlier attempt is not sent
    again, and a large file that arrived in part goes on where it was.
    """
    total = sum(entry.size for entry in entries)
    begun = [place.begun]

    def attempt() -> None:
        arrived = observe(host, place.staging) if begun[0] else Manifest()
        begun[0] = True
        missing = [entry for entry in entries if not _whole(arrived.get(entry.path), entry)]
        for entry in missing.copy():
            if _resume(host, source, entry, arrived.get(entry.path), place.staging):
                missing.remove(entry)
        files, size = len(entries) - len(missing), total - sum(entry.size for entry in missing)
        if missing:
            transfer.send(source, missing, place.staging, lambda done, sent: tally(files + done, size + sent))

    host.connection.persist(attempt)


def _whole(found: Entry | None, wanted: Entry) -> bool:
    """Whether a file has arrived whole: each transfer sets mode and time after the last byte."""
    if found is None or not found.same_shape(wanted):
        return False
    return wanted.kind == "link" or found.mtime == wanted.mtime


def _resume(host: Host, source: Source, entry: Entry, found: Entry | None, staging: str) -> bool:
    """Append what is missing of a large file; whether it is whole now, by its checksum."""
    if found is None or found.kind != "file" or entry.kind != "file" or not host.has("sha256sum"):
        return False
    if found.size < RESUME_FROM or found.size > entry.size:
        return False
    name = quote(f"{staging}/{entry.path}")
    # The prefix is compared before anything is sent: it may be of another try's content.
    prefix = host.shell.run(f"sha256sum < {name}", what="Checking a part of an upload").text.split()[0]
    if prefix != source.digest_of_first(entry, found.size):
        return False
    script = (
        f"cat >> {name} && chmod {entry.mode:o} {name} && "
        f"{{ touch -d @{entry.mtime} {name} 2>/dev/null || :; }} && sha256sum < {name}"
    )
    done = host.shell.run(
        script, what="Going on with an upload", stdin=lambda: source.read(entry, found.size), repeat=False
    )
    return done.text.split()[0] == entry.content


def _send_manifest(host: Host, folder: str, manifest: Manifest) -> None:
    data = manifest.dumps()
    unpack = "cat"
    if host.has("gzip"):
        data, unpack = gzip.compress(data, 6), "gzip -dc"

    def blocks() -> Iterable[bytes]:
        return (data[i : i + 65536] for i in range(0, len(data), 65536))

    name = quote(f"{folder}/manifest.new")
    host.shell.run(
        f"mkdir -p {quote(folder)} && {unpack} > {name}", stdin=blocks, what="Writing the manifest"
    )


def _commands(place: Place, known: Known, difference: Difference) -> Iterator[str]:
    if known.manifest is None:
        yield from _anew(place, difference)
    elif difference:
        if place.state:
            yield _doubt(place.state, [*difference.added, *difference.changed, *difference.deleted])
        yield from apply.commands(difference, known.trusted, place.staging, place.target)
    if place.state:
        folder = place.state
        yield f"mv -f {quote(folder + '/manifest.new')} {quote(folder + '/manifest')}"
        yield f"rm -f {quote(folder + '/touched')}"
    yield f"cd / && rm -rf {quote(place.staging)} {quote(place.staging + '.rsync')}"


def _anew(place: Place, difference: Difference) -> Iterator[str]:
    yield f"mkdir -p {quote(place.staging)} && cd {quote(place.staging)}"
    folders = [e for e in difference.written if e.kind == "dir"]
    yield from apply.make_folders(folders)
    if place.state:
        yield f"rm -f {quote(place.state + '/manifest')} {quote(place.state + '/touched')}"
    yield f"rm -rf {quote(place.target)} && mv {quote(place.staging)} {quote(place.target)}"


def _doubt(folder: str, entries: Iterable[Entry]) -> str:
    """Write down what is about to change: if we are cut, the old manifest is not to be trusted about it."""
    lines = " ".join(quote(escape(entry.path)) for entry in entries)
    name, fresh = quote(f"{folder}/touched"), quote(f"{folder}/touched.new")
    return f"{{ [ ! -f {name} ] || cat {name}; printf '%s\\n' {lines}; }} > {fresh} && mv -f {fresh} {name}"
