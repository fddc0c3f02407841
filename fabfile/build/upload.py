"""Bring one directory on the host up to the source: transfer, apply, manifest."""

from __future__ import annotations

import gzip
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ..background import background
from ..events import Progress, count
from ..local import local_cache
from ..on_host.manifest import Difference, Entry, Manifest, RemoteContents, escape, header, line
from ..remote.answers import is_sha256, not_understood
from ..remote.host import Host, replace_file
from ..remote.script_files import Scripts, quote
from ..remote.shell import Result, Script
from ..session.session import HostSession, HostView
from . import apply, proof, transfers
from .observe import observe
from .order import Comparison
from .source.source import Source
from .transfers import Tally, Transfer

_scripts = Scripts(__package__)
_END = "end of lines"  # no line of a manifest is this

RESUME_FROM = 8 << 20  # bytes that must have arrived for a file to be worth going on with


class UploadTarget(NamedTuple):
    """A directory to bring up to date.

    staging:  a directory on the same file system, for nothing but this source.
    state:    where its manifest is kept ("" : nowhere).
    base:     where the manifest is kept of what the directory holds before; else `state`.
    begun:    whether an earlier command has left something of this very source in `staging`.
    keep_links, quick: see apply.commands().
    """

    target: str
    staging: str
    state: str = ""
    base: str = ""
    begun: bool = False
    keep_links: bool = False
    quick: bool = False

    @classmethod
    def of(
        cls,
        view: HostView,
        source: Source,
        target: str,
        state: str,
        *,
        base: str = "",
        keep_links: bool = False,
        again: bool = False,
    ) -> UploadTarget:
        """A directory to bring up to `source`. again: nothing that waits in `staging` is of use."""
        host, names = view.host, {source.tree, f"{source.tree}.rsync"}
        begun = not again and bool(names & view.state.incoming)
        quick = host.facts.find_printf and host.facts.cp_reflink and host.has("stat")
        staging = f"{view.layout.incoming}/{source.tree}"
        return cls(target, staging, state, base, begun, keep_links, quick)


class StagedUpload(NamedTuple):
    """How a directory gets from what is known of it to what is wanted."""

    place: UploadTarget
    known: RemoteContents
    difference: Difference
    entries: int  # of the manifest as it will be
    whole: bool  # the manifest was sent; else the host makes it from the one it has
    digest: str = ""  # of the manifest's text

    def __bool__(self) -> bool:
        moved = self.place.base not in ("", self.place.state)
        return bool(self.difference or self.known.manifest is None or self.known.doubtful or moved)

    @property
    def script(self) -> str:
        """What puts the staged files and the manifest in their place. It may be run again after a cut."""
        return "\n".join(["set -e", *_commands(self)])


def send(
    session: HostSession,
    source: Source,
    target: UploadTarget,
    comparison: Comparison,
    *,
    meanwhile: Script | None = None,
) -> StagedUpload:
    """The step "upload": send what `target` lacks to where it is gathered. meanwhile: what the host is to run
    while something is sent.
    """
    host, result, difference = session.host, session.result, comparison.difference
    uploads, size = difference.uploads, difference.size
    with session.step("upload") as tell:
        choice = transfers.choose(host, session.settings.transfer)
        result.transfer = choice.transfer.name

        def tally(done: int, sent: int) -> None:
            host.emit(Progress(host.name, "upload", done, len(uploads), sent, size))

        with _meanwhile(session, meanwhile if uploads else None):
            update = stage(
                host, target, comparison.known, source, source.manifest, difference, choice.transfer, tally
            )
        done = update.difference
        result.count(done)
        tell(
            f"{count(len(done.uploads), 'file')} by {choice.transfer.name} ({choice.why}), "
            f"{len(done.deleted)} deleted"
        )
    return update


@contextmanager
def _meanwhile(session: HostSession, script: Script | None) -> Iterator[None]:
    if script is None:
        yield
        return
    guarded = session.guard + script.script
    running = background(lambda: session.host.shell.run(guarded, what=script.what))
    try:
        yield
    finally:
        running.exception()  # nothing of ours comes late
    running.result()


def stage(
    host: Host,
    place: UploadTarget,
    known: RemoteContents,
    source: Source,
    wanted: Manifest,
    difference: Difference,
    transfer: Transfer,
    tally: Tally,
) -> StagedUpload:
    """Send what `place` lacks of `wanted`, which is `difference`, into its staging directory; what is to be
    done there then.
    """
    if difference.uploads:
        fill(host, transfer, source, difference.uploads, place, tally)
    anew = known.manifest is None
    manifest = wanted if anew or known.manifest is None else known.manifest.after(difference)
    moved = place.base not in ("", place.state)
    if not place.state or not (difference or anew or moved):
        return StagedUpload(place, known, difference, len(manifest), False, known.digest)
    lines = len(difference.written) + len(difference.deleted)
    text = manifest.dumps()
    # A few lines travel; the host makes the rest from the manifest it has, and proves it.
    whole = not (known.digest and proof.possible(host) and lines <= max(64, len(wanted) // 8))
    if whole:
        _send_manifest(host, place.state, text)
    return StagedUpload(place, known, difference, len(manifest), whole, local_cache.keep_manifest(text))


def fill(
    host: Host,
    transfer: Transfer,
    source: Source,
    entries: Sequence[Entry],
    place: UploadTarget,
    tally: Tally,
) -> None:
    """Bring `entries` into the staging directory. What arrived whole in an earlier attempt is not sent
    again, and a large file that arrived in part goes on where it was.
    """
    total = sum(entry.size for entry in entries)
    begun = [place.begun]

    def attempt() -> None:
        arrived = _arrived(host, place.staging, entries) if begun[0] else Manifest()
        begun[0] = True
        missing = [entry for entry in entries if not _whole(arrived.get(entry.path), entry)]
        for entry in missing.copy():
            if _resume(host, source, entry, arrived.get(entry.path), place.staging):
                missing.remove(entry)
        files, size = len(entries) - len(missing), total - sum(entry.size for entry in missing)
        if missing:
            transfer.send(source, missing, place.staging, lambda done, sent: tally(files + done, size + sent))

    host.connection.persist(attempt)


def _arrived(host: Host, staging: str, entries: Sequence[Entry]) -> Manifest:
    """What the staging directory holds already. Links in it that are not the source's are removed first: no
    transfer may write through one.
    """
    names = " ".join(quote(name) for name in (staging, f"{staging}.rsync"))
    clear = f'for d in {names}; do if [ -L "$d" ] || [ ! -d "$d" ]; then rm -f "$d"; fi; done'
    host.shell.run(clear, what="Looking at what has arrived")
    found = observe(host, staging, like=len(entries))
    kinds = {entry.path: entry.kind for entry in entries}
    for entry in entries:
        path = entry.path
        while (path := posixpath.dirname(path)) and path not in kinds:
            kinds[path] = "dir"
    odd = [e.path for e in found if kinds.get(e.path, e.kind) != e.kind]
    if odd:
        lines = [f"cd {quote(staging)}", *apply.batches("rm -rf", odd)]
        host.run_lines(lines, "Clearing away what has not arrived")
        found = observe(host, staging, like=len(entries))
    return found


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
    what = "Checking a part of an upload"
    prefix = _sum(host.shell.run(f"sha256sum < {name}", what=what), what)
    if prefix != source.digest_of_first(entry, found.size):
        return False
    script = (
        f"cat >> {name} && chmod {entry.mode:o} {name} && "
        f"{{ touch -d @{entry.mtime} {name} 2>/dev/null || :; }} && sha256sum < {name}"
    )
    what = "Going on with an upload"
    done = host.shell.run(script, what=what, stdin=lambda: source.read(entry, found.size), repeat=False)
    return _sum(done, what) == entry.content


def _sum(said: Result, what: str) -> str:
    """What sha256sum has printed of its standard input. Raises AnswerNotUnderstood."""
    digest = said.text.partition(" ")[0]
    if not is_sha256(digest):
        raise not_understood(what, said.text)
    return digest


def _send_manifest(host: Host, folder: str, data: bytes) -> None:
    unpack = "cat"
    if host.has("gzip"):
        data, unpack = gzip.compress(data, 6), "gzip -dc"

    def blocks() -> Iterable[bytes]:
        return (data[i : i + 65536] for i in range(0, len(data), 65536))

    name = quote(f"{folder}/manifest.new")
    host.shell.run(
        f"umask 077; mkdir -p {quote(folder)} && rm -rf {name} && {unpack} > {name}",
        stdin=blocks,
        what="Writing the manifest",
    )


def _commands(update: StagedUpload) -> Iterator[str]:
    place, known, difference = update.place, update.known, update.difference
    if known.manifest is None:
        yield from _anew(place, difference)
    elif difference:
        if place.state:
            yield mark_untrusted(place.state, [e.path for e in (*difference.written, *difference.deleted)])
        yield f"{apply.ENTER}mkdir -p {quote(place.staging)}"
        yield from apply.commands(
            difference, known.trusted, place.staging, place.target,
            keep_links=place.keep_links, quick=place.quick,
        )  # fmt: skip
    if place.state:
        yield from _new_manifest(update)
        yield f"rm -f {quote(place.state + '/touched')}"
    left = " ".join(quote(place.staging + end) for end in ("", ".rsync", ".whole"))
    yield f"cd / && rm -rf {left}"


def _new_manifest(update: StagedUpload) -> Iterator[str]:
    folder = update.place.state
    if not update.whole:
        assert update.known.manifest is not None
        gone = (*update.difference.deleted, *update.difference.written)
        old = [update.known.manifest.get(e.path) for e in gone]
        yield _scripts(
            "renew_manifest",
            base=f"{update.place.base or folder}/manifest",
            fresh=f"{folder}/manifest.new",
            header=header(update.entries),
            digest=update.digest,
        )
        yield _here("keep_others", [line(entry) for entry in old if entry is not None])
        yield _here("add", [line(entry) for entry in update.difference.written])
        yield "check"
    yield replace_file(f"{folder}/manifest.new", f"{folder}/manifest")


def _here(command: str, lines: Sequence[str]) -> str:
    """`command` with these lines as its input."""
    return "\n".join([f"{command} <<'{_END}'", *lines, _END])


def _anew(place: UploadTarget, difference: Difference) -> Iterator[str]:
    """The staging directory becomes the tree, whole."""
    parent, name = posixpath.split(place.target)
    yield f"mkdir -p {quote(place.staging)} && cd {quote(place.staging)} && chmod 700 ."
    yield from apply.make_folders([e for e in difference.written if e.kind == "dir"])
    if place.state:
        yield f"rm -rf {quote(place.state + '/manifest')} {quote(place.state + '/touched')}"
    # Moved into the directory under its own name, since not each mv knows how not to follow a link (-T).
    whole = quote(f"{place.staging}.whole")
    yield f"rm -rf {whole}; mkdir -m 700 {whole} && mv -f {quote(place.staging)} {whole}/{quote(name)}"
    yield f"cd {quote(parent)} && rm -rf ./{quote(name)} && mv -f {whole}/{quote(name)} ."


def mark_untrusted(folder: str, paths: Iterable[str]) -> str:
    """A command that writes down paths about which the manifest in `folder` is not to be trusted: what is
    about to change (we may be cut), and what was found to be otherwise.
    """
    lines = " ".join(quote(escape(path)) for path in paths)
    name, fresh = quote(f"{folder}/touched"), quote(f"{folder}/touched.new")
    return (
        f"( umask 077; rm -rf {fresh} && "
        f"{{ [ ! -f {name} ] || cat {name}; printf '%s\\n' {lines}; }} > {fresh} && "
        f"{replace_file(f'{folder}/touched.new', f'{folder}/touched')} )"
    )
