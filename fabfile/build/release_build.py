"""Build one release on one host: upload, copy, link, verify. Nobody sees it until the switch.

`deployment` says when; `release.strategies` says in which order the upload and the copy are put together.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..background import background
from ..errors import DENIED, NO_SPACE, QUOTA, READ_ONLY, CommandFailed, HostNotReady, VerificationFailed
from ..events import Progress, count, shorten_list
from ..remote.files import PathInfo
from ..remote.host import Host, replace_file, write_file
from ..remote.shell import Result, Script, quote
from ..session.session import HostSession
from ..session.steps import BatchedSteps
from ..settings import Settings
from ..site import records, state
from ..site.lock import Owner
from ..site.manifest import Difference, Manifest, RemoteContents
from ..site.records import Record
from ..site.state import StoredManifest
from . import copying, proof, shared, transfers
from .apply import ENTER
from .sharing import Sharing
from .source.source import Source
from .strategies import STRATEGIES
from .upload import StagedUpload, UploadTarget, mark_untrusted, stage
from .verify import Verification

COPYING = "Copying"  # what the commands are called that copy the release


class ReleaseBuild(HostSession):
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
        self._known: RemoteContents | None = None
        self._difference: tuple[RemoteContents, Difference] | None = None
        # The release, seen from the other side.
        self._seen: Callable[[], dict[str, PathInfo] | None] = lambda: None
        self.sent: frozenset[str] = frozenset()  # the paths that this deployment has written
        self.sharing = Sharing(self)
        self.verification = Verification(self)

    def _take_state(self, found: state.State) -> None:
        """Raises HostNotReady, besides, where the cache is not a directory of ours to fill and to empty."""
        super()._take_state(found)
        if self.strategy.name == "cache" and found.cache_kind not in ("dir", "none"):
            cache = quote(self.layout.cache)
            raise HostNotReady(
                f"{self.layout.cache} is a {found.cache_kind}, not a directory.",
                "Switchover writes and deletes in it, and it can't know whose folder a link leads to.",
                f"See what it is: ls -ld {cache}. Then remove it: rm {cache}",
            )

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
        return self.sharing.paths

    def kept(self, name: str) -> StoredManifest | None:
        """What the state says of the manifest of "cache" or "live"; None once we may have changed it."""
        return self.state.manifests.get(name, StoredManifest()) if self.jobs.turn == 1 else None

    def known(self) -> RemoteContents:
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

    def place(self, target: str, state: str, base: str = "") -> UploadTarget:
        """A directory to upload into, and where the upload is gathered."""
        names = {self.source.tree, f"{self.source.tree}.rsync"}
        begun = self.jobs.turn == 1 and bool(names & self.state.incoming)
        staging = f"{self.layout.incoming}/{self.source.tree}"
        facts, keep = self.host.facts, self.strategy.keeps_links
        quick = facts.find_printf and facts.cp_reflink and self.host.has("stat")
        return UploadTarget(target, staging, state, base, begun, keep, quick)

    def apply(self, update: StagedUpload) -> Script:
        """What puts an upload in its place."""
        return Script("Putting the upload in its place", update.script)

    def copy(self, source: str) -> Script:
        """What makes the new release a copy of `source`."""
        mode, recycling = self.settings.copy, self._recycling(source)
        script = copying.script(
            self.host, source, self.directory, mode, self.layout.own, self.wanted, recycling
        )
        if self.strategy.name == "previous":
            # What is told of the new release is about another attempt; and nothing is written through links.
            told, releases = quote(self.layout.state_of(self.id)), quote(self.layout.releases)
            unlink = f"{ENTER}tree_in {releases} {self.id}\n{shared.unlink(self.sharing.links_of_live())}"
            script = f"rm -rf {told}/manifest {told}/touched\n(\n{script}\n) || exit\n{unlink}"
        return Script(f"{COPYING} {source} to {self.directory}", script)

    def build(self) -> None:
        """Bring everything there and prove it; what is not as it should be is sent again, once.

        Raises VerificationFailed.
        """
        wrong = self._first_attempt()
        if not wrong:
            return
        again = frozenset(wrong)
        self._doubt(wrong)
        self.jobs.turn += 1
        known = self.strategy.known(self)
        self._known = replace(known, doubtful=known.doubtful | again)
        if wrong := self._attempt():
            self._doubt(wrong)
            after = [path for path in wrong if path in again]
            named = f"{count(len(wrong), 'path')} missing or different: {shorten_list(wrong)}"
            if after:
                named += f"; {count(len(after), 'path')} also after being sent again: {shorten_list(after)}"
            raise VerificationFailed(
                f"The new release on {self.host.name} is not what was deployed.",
                named,
                "Deploy with --from-scratch. If that does not help, the host's disk is to be checked.",
            )

    def _first_attempt(self) -> list[str]:
        """What is to be sent again. With strategy cache that is all that is wrong in the cache, of which a
        recycled release shows only a part; and a cache that can't be copied may be one that can be mended.
        """
        cache = self.strategy.name == "cache"
        try:
            wrong = self._attempt()
        except CommandFailed as error:
            if not cache or error.reason in (NO_SPACE, QUOTA, READ_ONLY):
                raise
            damaged = self.verification.damage(hashed=False)
            if not damaged:
                raise
            self.result.failed_in = ""
            wrong = damaged
        else:
            damaged = self.verification.damage(hashed=True) if wrong and cache else []
        if wrong:
            where = "cache/ was changed on the host" if damaged else "the release is not as it was sent"
            wrong = sorted({*wrong, *damaged})
            self.host.note("warn", f"{where}: {count(len(wrong), 'path')} sent again: {shorten_list(wrong)}")
        return wrong

    def _doubt(self, wrong: list[str]) -> None:
        """Have the next deployment send these again, whatever becomes of this one."""
        if self.strategy.name == "cache":
            lines = mark_untrusted(self.layout.cache_state, wrong)
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
        if wrong := shared.wrong(seen, self.directory, self.shared, self.sharing.linked.way):
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
        seeds = self.sharing.upload()
        copied = [self._record_part()]
        copied += self.strategy.parts(self, update) if update is not None else []
        linking = self._linking(seeds)
        parts = [*copied, *linking, self.verification.proving()]
        steps = BatchedSteps(
            self.steps,
            ["copy"] * len(copied) + ["link"] * len(linking) + ["verify"],
            {
                "copy": copying.mode_used,
                "link": lambda _: count(len(self.shared), "shared path"),
                "verify": lambda _: count(len(self.wanted), "path"),
            },
        )
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
        self.sharing.take(said[-3])
        digest = update.digest if update is not None else ""
        return self.verification.judge(said[-1], expected.result(), digest)

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

    def _record_part(self) -> Script:
        changed = [self.record] if self.record else []
        return Script("Writing the record", records.write(self.layout, *changed))

    def _built_before(self) -> bool:
        """With strategy previous, whether the deployment that we resume had brought everything there."""
        if not (self.resumed and self.strategy.name == "previous" and self.jobs.turn == 1):
            return False
        # What an interrupted run of this deployment has sent is ours to answer for too.
        self.sent = frozenset(entry.path for entry in self.known().difference(self.wanted).written)
        own = state.read_manifest(self.host, self.layout.state_of(self.id))
        return own.manifest is not None and not own.difference(self.wanted)

    def upload(self) -> StagedUpload:
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
            self.sent |= {entry.path for entry in done.written}
            self.result.count(done)
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
        if not error.command.startswith(COPYING):
            return error
        if mode not in ("reflink", "hardlink"):
            if error.reason == DENIED and self.strategy.name == "cache":
                error.hint = (
                    "See with `ls -l` whether this account can read it; "
                    "`--from-scratch` makes the cache anew."
                )
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
        known = state.known(
            self.host, self.layout.state_of(good[0].id), StoredManifest(good[0].manifest), self.wanted
        )
        return copying.Old(good[0], known.manifest) if known.manifest else None

    def _linking(self, seeds: StagedUpload | None) -> list[Script]:
        """Link what is shared, put REVISION in, keep the manifest with the release."""
        finish = "\n".join(["set -e", *self._finishing(seeds)])
        return [*self.sharing.parts(seeds), Script("Finishing the release", finish)]

    def _finishing(self, seeds: StagedUpload | None) -> Iterator[str]:
        if self.strategy.name == "cache":
            kept = self.layout.state_of(self.id)
            yield f"rm -rf {quote(kept + '/manifest.new')}"
            yield f"cp {quote(self.layout.cache_state + '/manifest')} {quote(kept + '/manifest.new')}"
            yield replace_file(f"{kept}/manifest.new", f"{kept}/manifest")
        if seeds:
            yield f"rm -rf {quote(seeds.place.target)}"
        yield f"{ENTER}umask 022; tree_in {quote(self.layout.releases)} {self.id}"
        if self.wanted.get("REVISION") is None:
            yield write_file("./REVISION", self.source.revision + "\n")
        # Until now nobody else could enter it.
        yield f"chmod {self.source.root_mode:o} ."

    def _tally(self, difference: Difference) -> Callable[[int, int], None]:
        files, size, emit, name = len(difference.uploads), difference.size, self.host.emit, self.host.name
        return lambda done, sent: emit(Progress(name, "upload", done, files, sent, size))
