"""Build one release on one host: upload, copy, link, verify. Nobody sees it until the switch.

`deployment` says when; `release.strategies` says in which order the upload and the copy are put together.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .background import background
from .errors import CommandFailed, HostNotReady, VerificationFailed
from .events import Progress, count
from .release import copying, proof, records, shared, state, transfers
from .release.lock import Owner
from .release.manifest import Difference, Entry, Known, Manifest
from .release.observe import digests, observe
from .release.records import Record
from .release.source import Source
from .release.state import Kept
from .release.strategies import STRATEGIES
from .release.upload import Place, Update, doubt, stage
from .remote.files import Seen
from .remote.host import Host, write_file
from .remote.shell import Part, Result, quote
from .settings import Settings
from .steps import Steps
from .work import Work, some

COPYING = "Copying"  # what the commands are called that copy the release


class Building(Work):
    """A release that comes about on one host. What a strategy sees: release.strategies.Build."""

    def __init__(
        self,
        host: Host,
        settings: Settings,
        owner: Owner,
        halt: threading.Event,
        source: Source,
        from_scratch: bool = False,
    ) -> None:
        super().__init__(host, settings, owner, halt)
        self.source = source
        self.wanted: Manifest = source.manifest
        self.from_scratch = from_scratch
        self.strategy = STRATEGIES[settings.strategy]
        self.result.strategy = settings.strategy
        self.id = ""
        self.record: Record | None = None
        self.resumed = False
        self._known: Known | None = None
        self._difference: tuple[Known, Difference] | None = None
        self._seen: Callable[[], dict[str, Seen] | None] = lambda: None  # the release, from the other side
        self._sent: frozenset[str] = frozenset()  # the paths that this deployment has written

    @property
    def directory(self) -> str:
        """The new release's directory."""
        return self.layout.release(self.id)

    @property
    def live(self) -> str | None:
        """The live release's name."""
        return self.state.live

    @property
    def live_directory(self) -> str | None:
        """The live release's directory, as the link says it; None where the link is missing or dangles."""
        target = self.state.target
        if target is None or not self.state.leads:
            return None
        return posixpath.normpath(posixpath.join(self.layout.deploy_to, target))

    @property
    def shared(self) -> list[str]:
        """The shared paths."""
        return [*self.settings.shared.dirs, *self.settings.shared.files]

    def kept(self, name: str) -> Kept | None:
        """What the state says of the manifest of "cache" or "live"; None once we may have changed it."""
        return self.state.manifests.get(name, Kept()) if self.jobs.turn == 1 else None

    def known(self) -> Known:
        """What the directory holds that is uploaded into."""
        if self._known is None:
            self._known = self.strategy.known(self)
        return self._known

    def difference(self) -> Difference:
        """What that directory lacks of the source."""
        known = self.known()
        if self._difference is None or self._difference[0] is not known:
            self._difference = (known, known.difference(self.wanted))
        return self._difference[1]

    def place(self, target: str, state: str, base: str = "") -> Place:
        """A directory to upload into, and where the upload is gathered."""
        names = {self.source.tree, f"{self.source.tree}.rsync"}
        begun = self.jobs.turn == 1 and bool(names & self.state.incoming)
        return Place(target, f"{self.layout.incoming}/{self.source.tree}", state, base, begun)

    def apply(self, update: Update) -> Part:
        """What puts an upload in its place."""
        return Part("Putting the upload in its place", update.script)

    def copy(self, source: str) -> Part:
        """What makes the new release a copy of `source`."""
        mode, recycling = self.settings.copy, self._recycling(source)
        script = copying.script(
            self.host, source, self.directory, mode, self.layout.own, self.wanted, recycling
        )
        if self.strategy.name == "previous":
            # What is told of the new release is about another attempt; and nothing is written through links.
            told = quote(self.layout.state_of(self.id))
            unlink = shared.unlink(self.directory, self._links_of_live())
            script = f"rm -f {told}/manifest {told}/touched\n(\n{script}\n) || exit\n{unlink}"
        return Part(f"{COPYING} {source} to {self.directory}", script)

    def build(self) -> None:
        """Bring everything there and prove it; what did not arrive as sent is sent again, once.

        Raises VerificationFailed.
        """
        wrong = self._attempt()
        if wrong:
            self.host.note(
                "warn", f"{count(len(wrong), 'path')} did not arrive as sent, sent again: {some(wrong)}"
            )
            self._doubt(wrong)
            self.jobs.turn += 1
            known = self.strategy.known(self)
            self._known = replace(known, doubtful=known.doubtful | set(wrong))
            wrong = self._attempt()
        if wrong:
            self._doubt(wrong)
            raise VerificationFailed(
                f"The new release on {self.host.name} is not what was deployed.",
                f"{len(wrong)} paths are missing or differ, also after they were sent again: {some(wrong)}",
                "Deploy with --from-scratch. If that does not help, the host's disk is to be checked.",
            )

    def _doubt(self, wrong: list[str]) -> None:
        """Have the next deployment send these again, whatever becomes of this one."""
        if self.strategy.name == "cache":
            lines = doubt(self.layout.cache_state, wrong)
            self.host.run_lines([lines], "Writing down what is wrong", self.guard)

    def look_at_release(self) -> None:
        """See the release from the other side. Raises VerificationFailed."""
        files = self.settings.shared.files
        seen = self._seen() or self.host.files.look(self._to_look_at())
        there = seen[self.directory].stat
        if there is None or there.kind != "dir":
            raise VerificationFailed(
                f"The new release is not there: {self.directory}.",
                f"the shell has just made it, the check sees {there.kind if there else 'nothing'}",
                "Shell and SFTP may see different trees: set ssh.sftp: off, and compare `ls` of both.",
            )
        if wrong := shared.wrong(seen, self.directory, self.shared):
            raise VerificationFailed("A shared path is not linked as it should be.", "\n".join(wrong))
        for path in shared.dangling(seen, self.layout, files):
            self.host.note("warn", f"shared/{path} is not there yet: put it at {self.layout.shared}/{path}")

    def _to_look_at(self) -> list[str]:
        dirs, files = self.settings.shared.dirs, self.settings.shared.files
        return [self.directory, *shared.paths_to_check(self.layout, self.directory, dirs, files)]

    def doomed(self) -> list[Record]:
        """What retention removes once this release is live."""
        assert self.record is not None
        known = {**self.state.records, self.id: self.record.become(records.LIVE)}
        return records.to_remove(known, self.settings.keep_releases, self.id, self.state.live)

    # The steps

    def _attempt(self) -> list[str]:
        """Build the release's directory once; the paths in it that are not as they should be."""
        update = None if self._built_before() else self.upload()
        seeds = self._upload_seeds()
        copied = [self._record_part()]
        copied += self.strategy.parts(self, update) if update is not None else []
        linking = self._linking(seeds)
        parts = [*copied, *linking, self._proving()]
        steps = Steps(self, ["copy"] * len(copied) + ["link"] * len(linking) + ["verify"])
        steps.details = {
            "copy": copying.mode_used,
            "link": lambda _: count(len(self.shared), "shared path"),
            "verify": lambda _: count(len(self.wanted), "path"),
        }
        expected = background(lambda: proof.expected_shape(self.wanted))
        ended = self.jobs.status_of("build", parts)
        watching = self.host.files.watching(
            [ended, *self._to_look_at()], lambda seen: seen[ended].stat is not None
        )
        with steps.running(), watching as self._seen:
            try:
                # One job for all: it goes on without us, and costs one round trip.
                said = self.jobs.batch("build", parts, "Building the release", ended=steps.ended)
            except CommandFailed as error:
                raise self._not_copied(error) from error
        self._note_copy(said[: len(copied)])
        digest = update.digest if update is not None else ""
        return self._judge(said[-1], expected.result(), digest)

    @contextmanager
    def _telling(self, difference: Difference) -> Iterator[None]:
        """Where something is sent, have the record say meanwhile what goes on: --resume looks for it."""
        if not (self.record and difference.uploads):
            yield
            return
        script = self.guard + self._record_part().script
        told = background(lambda: self.host.shell.run(script, what="Writing the record"))
        try:
            yield
        finally:
            told.exception()  # nothing of ours comes late
        told.result()

    def _record_part(self) -> Part:
        changed = [self.record] if self.record else []
        return Part("Writing the record", records.write(self.layout, *changed))

    def _built_before(self) -> bool:
        """With strategy previous, whether the deployment that we resume had brought everything there."""
        if not (self.resumed and self.strategy.name == "previous" and self.jobs.turn == 1):
            return False
        # What an interrupted run of this deployment has sent is ours to answer for too.
        self._sent = frozenset(entry.path for entry in self.known().difference(self.wanted).written)
        own = state.read_manifest(self.host, self.layout.state_of(self.id))
        return own.manifest is not None and not own.difference(self.wanted)

    def upload(self) -> Update:
        """Send what is missing to where it is gathered."""
        with self.step("upload") as tell:
            choice = transfers.choose(self.host, self.settings.transfer)
            self.result.transfer = choice.transfer.name
            place, difference = self.strategy.place(self), self.difference()
            with self._telling(difference):
                update = stage(
                    self.host, place, self.known(), self.source, self.wanted, difference,
                    choice.transfer, self._tally(difference),
                )  # fmt: skip
            done = update.difference
            self._sent |= {entry.path for entry in done.written}
            self._count(done)
            tell(
                f"{count(len(done.uploads), 'file')} by {choice.transfer.name} ({choice.why}), "
                f"{len(done.deleted)} deleted"
            )
        return update

    def _note_copy(self, said: list[Result]) -> None:
        told = " ".join(result.text for result in said)
        self.result.copy = copying.mode_used(told)
        if copying.DRIFTED in told.split():
            self.host.note("info", "the oldest release has changed since it was built: it is not recycled")

    def _not_copied(self, error: CommandFailed) -> CommandFailed | HostNotReady:
        mode = self.settings.copy
        if mode not in ("reflink", "hardlink") or not error.command.startswith(COPYING):
            return error
        return HostNotReady(
            f"copy: {mode} does not work on {self.host.name}.",
            error.why,
            "Set copy: auto, which falls back to a full copy.",
        )

    def _recycling(self, source: str) -> str:
        """See copying.recycle; "" where there is nothing to recycle."""
        old = self._old_release()
        if old is None:
            return ""
        return copying.recycle(self.layout, old, self.wanted, source, self.directory, self.shared)

    def _old_release(self) -> copying.Old | None:
        """The oldest release that retention would remove, if it can become the new one instead."""
        wished = self.settings.copy in ("auto", "recycle") and self.strategy.name == "cache"
        able = proof.possible(self.host) and self.host.facts.mv_no_target
        if not (wished and able) or self.from_scratch or self.resumed or self.jobs.turn > 1:
            return None
        good = [r for r in self.doomed() if r.state == records.GOOD and r.id in self.state.directories]
        if not good or not good[0].seal:
            return None
        known = state.known(self.host, self.layout.state_of(good[0].id), Kept(good[0].manifest), self.wanted)
        return copying.Old(good[0], known.manifest) if known.manifest else None

    def _linking(self, seeds: Update | None) -> list[Part]:
        """Link what is shared, put REVISION in, keep the manifest with the release."""
        dirs, files = self.settings.shared.dirs, self.settings.shared.files
        link = shared.link(self.layout, self.directory, dirs, files, seeds.place.target if seeds else None)
        return [
            *([Part("Seeding what is shared", seeds.script)] if seeds else []),
            Part("Linking what is shared", link),
            Part("Finishing the release", " && ".join(self._finishing(seeds))),
        ]

    def _finishing(self, seeds: Update | None) -> Iterator[str]:
        if self.wanted.get("REVISION") is None:
            yield write_file(f"{self.directory}/REVISION", self.source.revision + "\n")
        if self.strategy.name == "cache":
            kept = self.layout.state_of(self.id)
            yield f"cp {quote(self.layout.cache_state + '/manifest')} {quote(kept + '/manifest.new')}"
            yield f"mv -f {quote(kept + '/manifest.new')} {quote(kept + '/manifest')}"
        yield f"rm -rf {quote(seeds.place.target)}" if seeds else ":"

    def _upload_seeds(self) -> Update | None:
        """Upload what the source has for shared paths that the host hasn't yet."""
        missing = [path for path in self.shared if path not in self.state.shared_present]
        entries = [
            e for e in self.source.seeds if any(e.path == p or e.path.startswith(p + "/") for p in missing)
        ]
        if not entries:
            return None
        place = Place(
            f"{self.layout.incoming}/{self.id}.seeds", f"{self.layout.incoming}/{self.id}.seeds.part"
        )
        transfer = transfers.choose(self.host, self.settings.transfer).transfer
        wanted = Manifest(entries)
        update = stage(
            self.host, place, Known(), self.source, wanted, Known().difference(wanted), transfer,
            lambda files, size: None,
        )  # fmt: skip
        self._count(update.difference)
        return update

    # What verify sees

    def _proving(self) -> Part:
        if not proof.possible(self.host):
            return Part("Looking at the release", ":")
        files, everything = self._files_to_read()
        own = [] if self.wanted.get("REVISION") else ["REVISION"]
        return Part(
            "Looking at the release",
            proof.digests(
                shape=proof.shape(self.directory, self._not_ours()),
                content=proof.content(self.host, self.directory, files, own if everything else None),
                seal=proof.seal(self.directory),
            ),
        )

    def _judge(self, said: Result, expected: str, digest: str) -> list[str]:
        """What is wrong, by the digests; where they are not as expected, by looking at everything."""
        files, _ = self._files_to_read()
        found = proof.parse(said.text)
        if found.get("shape") == expected and found.get("content") == proof.expected_content(files):
            if self.record and self.strategy.name == "cache":
                self.record = replace(self.record, manifest=digest, seal=found.get("seal", ""))
            return []
        with self.step("verify") as tell:
            tell(count(len(self.wanted), "path"))
            return self._wrong()

    def _not_ours(self) -> list[str]:
        """The paths of a release that are not the source's: links, the directories they needed, REVISION."""
        made = {p for path in self.shared for p in _parents(path) if self.wanted.get(p) is None}
        return [*self.shared, *sorted(made), *([] if self.wanted.get("REVISION") else ["REVISION"])]

    def _wrong(self) -> list[str]:
        """The paths of the release that are not as they should be."""
        found = observe(self.host, self.directory, without=tuple(self._not_ours()))
        wrong = [e.path for e in self.wanted if not _matches(found.get(e.path), e)]
        extra = [e.path for e in found if self.wanted.get(e.path) is None]
        if self.strategy.name == "previous":
            # What was edited by hand in the live release carries over; what is missing there does not.
            edited = [path for path in wrong if path not in self._sent and found.get(path)]
            wrong = sorted(set(wrong) - set(edited))
            if edited:
                self.host.note(
                    "info", f"{count(len(edited), 'path')} edited by hand carry over: {some(edited)}"
                )
        if extra and self.strategy.name == "cache":
            self.host.note(
                "warn", f"{count(len(extra), 'path')} in the cache not from the source: {some(extra)}"
            )
        return sorted({*wrong, *self._altered(set(wrong))})

    def _altered(self, passed_over: set[str]) -> list[str]:
        """The files whose content, read on the host, is not what was sent."""
        files = [entry for entry in self._files_to_read()[0] if entry.path not in passed_over]
        if not files:
            return []
        if not self.host.has("sha256sum"):
            self.host.note("warn", "the host has no sha256sum: only sizes and modes are verified")
            return []
        found = digests(self.host, self.directory, [e.path for e in files])
        return [e.path for e in files if found.get(e.path) != e.content]

    def _files_to_read(self) -> tuple[list[Entry], bool]:
        """The files whose content is read back, and whether these are all there are."""
        cache = self.strategy.name == "cache"
        everything = cache and (self.settings.verify == "full" or self.resumed)
        files = [e for e in self.wanted if e.kind == "file"]
        chosen = [e for e in files if everything or e.path in self._sent]
        return chosen, cache and len(chosen) == len(files)

    def _links_of_live(self) -> list[str]:
        record = self.state.records.get(self.state.live or "")
        return sorted({*self.shared, *(record.shared if record else [])})

    def _tally(self, difference: Difference) -> Callable[[int, int], None]:
        files, size, emit, name = len(difference.uploads), difference.size, self.host.emit, self.host.name
        return lambda done, sent: emit(Progress(name, "upload", done, files, sent, size))

    def _count(self, done: Difference) -> None:
        self.result.files_uploaded += len(done.uploads)
        self.result.files_deleted += len([e for e in done.deleted if e.kind != "dir"])
        self.result.bytes_uploaded += done.size


def _matches(found: Entry | None, wanted: Entry) -> bool:
    return found is not None and found.same_shape(wanted)


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
