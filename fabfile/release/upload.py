"""Bring one directory on the host up to the source: transfer, apply, manifest."""

from __future__ import annotations

import gzip
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import ENGLISH, quote
from . import apply
from .manifest import Difference, Entry, Manifest, escape
from .source import Source
from .transfers import Tally, Transfer


@dataclass(frozen=True)
class Known:
    """What a directory on the host holds as far as we know: its manifest (None: nothing is known),
    and the paths that a cut upload may have left in any state.
    """

    manifest: Manifest | None = None
    doubtful: frozenset[str] = frozenset()

    def difference(self, wanted: Manifest) -> Difference:
        """What must be done to become `wanted`."""
        return (self.manifest or Manifest()).difference(wanted, self.doubtful)


@dataclass(frozen=True)
class Place:
    """A directory to bring up to date, and where its manifest is kept ("" : nowhere).

    staging: an unused directory on the same file system.
    """

    target: str
    state: str
    staging: str


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
        transfer.fill(source, difference.uploads, place.staging, tally)
    if place.state:
        _send_manifest(host, place.state, wanted)
    script = "\n".join([ENGLISH, "set -e", *_commands(place, known, difference)])
    jobs.run(f"apply-{posixpath.basename(place.staging)}", script, "Putting the upload in its place")
    return difference


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
        yield from apply.commands(difference, known.manifest, place.staging, place.target)
    if place.state:
        folder = place.state
        yield f"mv -f {quote(folder + '/manifest.new')} {quote(folder + '/manifest')}"
        yield f"rm -f {quote(folder + '/touched')}"
    yield f"cd / && rm -rf {quote(place.staging)}"


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
