"""The steps of a deployment on one host, in order.

    begin      connect · lock · check
    build      compare · upload · copy   (cache; `previous` copies before it uploads)
               link · verify · before_switch
    switch     switch
    prove      after_switch · health
    finish     retain · unlock

`fleet` runs each of these five on all hosts before it starts the next. Every step may be cut at any
point and run again. Nothing under what `current` points at is ever written to.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .errors import CommandFailed, ConnectionLost, HookFailed, HostNotReady, LockLost, VerificationFailed
from .events import Progress, count
from .release import copying, records, retention, shared, state, transfers
from .release.lock import Owner
from .release.manifest import Difference, Manifest
from .release.observe import digests, observe
from .release.records import Record
from .release.source import Source
from .release.strategies import STRATEGIES
from .release.upload import Known, Place, bring
from .remote.host import Host, write_file
from .remote.shell import quote
from .settings import Settings
from .work import Work, some

MARGIN = 4 << 20  # bytes that must stay free beyond what is known to be needed


@dataclass(frozen=True)
class Options:
    """What the command line says beyond the settings."""

    from_scratch: bool = False
    skip_health: bool = False
    resume: bool = False


class Deployment(Work):
    """A new release on one host."""

    def __init__(
        self,
        host: Host,
        settings: Settings,
        owner: Owner,
        halt: threading.Event,
        source: Source,
        options: Options,
    ) -> None:
        super().__init__(host, settings, owner, halt)
        self.source = source
        self.wanted: Manifest = source.manifest
        self.options = options
        self.from_scratch = options.from_scratch
        self.strategy = STRATEGIES[settings.strategy]
        self.result.strategy = settings.strategy
        self.id = ""
        self.record: Record | None = None
        self._known: Known | None = None
        self._sent: frozenset[str] = frozenset()  # the paths that this deployment has written
        self._resumed = False

    # What a strategy sees (release.strategies.Build)

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
        if target is None or (
            posixpath.dirname(target) == "releases" and self.live not in self.state.directories
        ):
            return None
        return posixpath.normpath(posixpath.join(self.layout.deploy_to, target))

    def upload(self, target: str, folder: str) -> None:
        """Bring `target` up to the source."""
        with self.step("upload") as tell:
            known = self._known or self.strategy.known(self)
            choice = transfers.choose(self.host, self.settings.transfer)
            self.result.transfer = choice.transfer.name
            place = Place(target, folder, *self._staging(self.source.tree))
            done = bring(self.host, self.jobs, place, known, self.source, choice.transfer, self._tally(known))
            # What an interrupted run of this deployment has sent is ours to answer for too.
            sent = self.strategy.known(self).difference(self.wanted) if self._resumed else done
            self._sent |= {entry.path for entry in sent.written}
            self._count(done)
            tell(
                f"{count(len(done.uploads), 'file')} by {choice.transfer.name} ({choice.why}), "
                f"{len(done.deleted)} deleted"
            )

    def copy(self, source: str) -> None:
        """Make the new release a copy of `source`."""
        with self.step("copy") as tell:
            self.result.copy = copying.copy_tree(
                self.host, self.jobs, source, self.directory, self.settings.copy
            )
            if self.strategy.name == "previous":
                self.host.shell.run(
                    shared.unlink(self.directory, self._links_of_live()), what="Unlinking shared paths"
                )
            tell(self.result.copy)

    # The phases

    def check_room(self) -> None:
        """Refuse what can't fit, before anything is uploaded."""
        self._known = self._own_known() or self.strategy.known(self)
        difference = self._known.difference(self.wanted)
        space = self.state.space
        if space is None:
            return
        copied = 0 if self._copies_for_free(space.free - difference.size - MARGIN) else self.wanted.size
        need = difference.size + copied + MARGIN
        inodes = len(difference.written) + (len(self.wanted) if self.settings.copy != "hardlink" else 0)
        if space.free < need:
            raise HostNotReady(
                f"There is not enough room on {self.host.name}.",
                f"{space.free} bytes are free for {self.layout.deploy_to}, {need} are needed "
                f"({difference.size} to upload, {copied} to copy, {MARGIN} in reserve)",
                "Free some space there, lower keep_releases, or set copy: hardlink.",
            )
        if space.free_inodes is not None and space.free_inodes < inodes:
            raise HostNotReady(
                f"There are not enough inodes on {self.host.name}.",
                f"{space.free_inodes} are free for {self.layout.deploy_to}, {inodes} are needed",
                "Remove files there, or lower keep_releases.",
            )

    def _copies_for_free(self, left: int) -> bool:
        """Whether the copy takes no room. Only asked of the file system where a full copy would not fit."""
        mode = self.settings.copy
        if mode != "auto" or left >= self.wanted.size:
            return mode in ("reflink", "hardlink")
        return copying.knows_reflink(self.host, self.layout.own)

    def plan(self) -> None:
        """What a deployment would do. Changes nothing."""
        self.look()
        with self.step("compare"):
            self.result.plan = self.strategy.known(self).difference(self.wanted)

    def build(self, release: str) -> None:
        """Build the release and prove it, unseen by anybody."""
        self.id = self.result.release = release
        self.jobs.folder = f"{self.layout.jobs}/{release}"
        self._tidy()
        if self._already_live():
            return
        with self.step("compare"):
            self.check_room()
        self.record = Record(
            release,
            records.BUILDING,
            self.source.revision,
            datetime.now(UTC).isoformat(timespec="seconds"),
            f"{self.lock.owner.user}@{self.lock.owner.machine}",
            self.wanted.size,
            self.strategy.name,
            [*self.settings.shared.dirs, *self.settings.shared.files],
            before=self.state.target,
        )
        self._write(self.record)
        self.strategy.build(self)
        self._link()
        self._verify()
        self.run_hooks(
            "before_switch", self.settings.hooks.before_switch, self.directory, release, self.source.revision
        )
        self.record = self.record.become(records.READY)
        self._write(self.record)

    def switch(self) -> None:
        """Make it live."""
        self.point_current(self.id)

    def prove(self) -> None:
        """What must hold after the switch."""
        self.run_hooks(
            "after_switch", self.settings.hooks.after_switch, self.directory, self.id, self.source.revision
        )
        if not self.options.skip_health:
            self.check_health()

    def finish(self) -> None:
        """Write down that it is good, clean up, unlock. What is live is not at stake any more."""
        assert self.record is not None
        self.record = self.record.become(records.LIVE)
        before = self.state.records.get(self.state.live or "")
        # One that is live, but was only ready, has never proved itself: its deployment was cut short.
        became = {records.LIVE: records.GOOD, records.READY: records.BAD}
        now_good = [before.become(became[before.state])] if before and before.state in became else []
        self._write(self.record, *now_good)
        known = {**self.state.records, **{r.id: r for r in [self.record, *now_good]}}
        doomed = records.to_remove(known, self.settings.keep_releases, self.id, self.state.live)
        if doomed:
            with self.step("retain") as tell:
                gone = retention.remove(self.host, self.layout, doomed, self.guard)
                tell(f"{count(len(gone), 'old release')} removed")
        self.unlock()

    def switch_back(self) -> None:
        """The new release is bad: put the old one back."""
        self.record = self.point_back(self.record.become(records.BAD) if self.record else None)

    def abandon(self) -> None:
        """A failed build: run after_failure, give the space back, keep a record that says so."""
        if self.lock.number is None:
            return
        if isinstance(self.result.error, ConnectionLost):
            return  # the lease runs out by itself, and what has arrived waits for the next try
        self.jobs.end()
        if isinstance(self.result.error, LockLost):
            return  # somebody else is at work here now
        if self.record is not None:
            self.after_failure()
            # A release that was live for a moment stays, to be looked at; retention removes it later.
            live = f'[ "$(readlink {quote(self.layout.current)})" = {quote(f"releases/{self.id}")} ]'
            remove = "" if self.switched else f"{live} || rm -rf {quote(self.directory)}; "
            failed = self.record.become(records.BAD if self.switched else records.FAILED)
            try:
                self.host.shell.run(
                    f"{self.guard}{remove}{self._give_space_back()}{records.write(self.layout, failed)}",
                    what="Cleaning up",
                )
            except CommandFailed as error:
                self.host.note("warn", f"{error.what} {error.why}")
        self.unlock()

    def after_failure(self) -> None:
        """The after_failure hooks, in the new release as far as it got."""
        commands = self.settings.hooks.after_failure
        if not commands:
            return
        there = (
            self.host.shell.run(f"[ -d {quote(self.directory)} ]", check=False, what="Looking").status == 0
        )
        folder = self.directory if there else self.layout.deploy_to
        try:
            self.run_hooks("after_failure", commands, folder, self.id, self.source.revision)
        except HookFailed as error:  # it must keep neither the lock nor the space
            self.host.note("warn", f"{error.what} {error.why}")

    def when_left_alone(self, reason: str) -> str:
        """See Work.when_left_alone."""
        return (
            records.write(self.layout, replace(self.record, state=records.BAD, note=reason))
            if self.record
            else ":"
        )

    # The parts

    def _staging(self, name: str) -> tuple[str, bool]:
        """Where an upload is gathered, and whether an interrupted one has begun there."""
        begun = self.jobs.turn == 1 and bool({name, f"{name}.rsync"} & self.state.incoming)
        return f"{self.layout.incoming}/{name}", begun

    def _tidy(self) -> None:
        """Pick up what an interrupted deployment has left of this one; clear away what others have left."""
        self._resumed = self.id in self.state.records
        if self.state.jobs:
            self.jobs.end_others()
        ours = {self.source.tree, f"{self.source.tree}.rsync"}
        if stale := sorted(self.state.incoming - ours):
            names = " ".join(quote(f"{self.layout.incoming}/{name}") for name in stale)
            self.host.shell.run(f"{self.guard}rm -rf {names}", what="Clearing away old uploads")
        if self._resumed:
            with self.step("resume"):
                self.jobs.settle()

    def _already_live(self) -> bool:
        """Whether the deployment that we resume had switched here before it was cut."""
        record = self.state.records.get(self.id)
        if record is None or self.state.live != self.id:
            return False
        self.record = record
        self.state = replace(self.state, target=record.before)
        self.result.previous = self.state.live
        self.tried_to_switch = self.switched = True
        return True

    def _own_known(self) -> Known | None:
        """With strategy previous, a resumed release knows its own content once it was uploaded."""
        if not self._resumed or self.strategy.name != "previous":
            return None
        manifest, doubtful = state.read_manifest(self.host, self.layout.state_of(self.id))
        return Known(manifest, doubtful) if manifest else None

    def _give_space_back(self) -> str:
        """What has arrived is kept for the next try, unless it is space that we have run out of."""
        why = self.result.error.why if self.result.error else ""
        full = any(said in why for said in ("No space left", "quota exceeded"))
        return f"rm -rf {quote(self.layout.incoming)}/*; " if full else ""

    def _link(self) -> None:
        """Link what is shared, put REVISION in, keep the manifest with the release."""
        dirs, files = self.settings.shared.dirs, self.settings.shared.files
        with self.step("link") as tell:
            seeds = self._upload_seeds()
            shared.link(self.jobs, self.layout, self.directory, dirs, files, seeds)
            self.host.shell.run(
                self.guard + " && ".join(self._finishing(seeds)), what="Finishing the release"
            )
            if wrong := shared.check(self.host, self.directory, (*dirs, *files)):
                raise VerificationFailed("A shared path is not linked as it should be.", "\n".join(wrong))
            for path in shared.dangling(self.host, self.layout, files):
                self.host.note(
                    "warn", f"shared/{path} is not there yet: put it at {self.layout.shared}/{path}"
                )
            tell(count(len(dirs) + len(files), "shared path"))

    def _finishing(self, seeds: str | None) -> Iterator[str]:
        if self.wanted.get("REVISION") is None:
            yield write_file(f"{self.directory}/REVISION", self.source.revision + "\n")
        if self.strategy.name == "cache":
            kept = self.layout.state_of(self.id)
            yield f"cp {quote(self.layout.cache_state + '/manifest')} {quote(kept + '/manifest.new')}"
            yield f"mv -f {quote(kept + '/manifest.new')} {quote(kept + '/manifest')}"
        yield f"rm -rf {quote(seeds)}" if seeds else ":"

    def _upload_seeds(self) -> str | None:
        """Upload what the source has for shared paths that the host hasn't yet; where it lies."""
        wanted = [*self.settings.shared.dirs, *self.settings.shared.files]
        missing = [path for path in wanted if path not in self.state.shared_present]
        entries = [
            e for e in self.source.seeds if any(e.path == p or e.path.startswith(p + "/") for p in missing)
        ]
        if not entries:
            return None
        seeds = f"{self.layout.incoming}/{self.id}.seeds"
        transfer = transfers.choose(self.host, self.settings.transfer).transfer
        place = Place(seeds, "", f"{seeds}.part")
        self._count(
            bring(
                self.host,
                self.jobs,
                place,
                Known(),
                self.source,
                transfer,
                lambda files, size: None,
                wanted=Manifest(entries),
            )
        )
        return seeds

    def _verify(self) -> None:
        """The release is what the manifest says, seen from both sides; what is not is sent again, once."""
        with self.step("verify") as tell:
            tell(self._see_release())
            wrong = self._wrong()
        if wrong:
            self.host.note(
                "warn", f"{count(len(wrong), 'path')} did not arrive as sent, sent again: {some(wrong)}"
            )
            self.jobs.turn += 1
            known = self.strategy.known(self)
            self._known = Known(known.manifest, known.doubtful | set(wrong))
            self.strategy.build(self)
            self._link()
            with self.step("verify"):
                wrong = self._wrong()
        if wrong:
            raise VerificationFailed(
                f"The new release on {self.host.name} is not what was deployed.",
                f"{len(wrong)} paths are missing or differ, also after they were sent again: {some(wrong)}",
                "Deploy with --from-scratch. If that does not help, the host's disk is to be checked.",
            )

    def _see_release(self) -> str:
        seen = self.host.files.lstat(self.directory)
        if seen is None or seen.kind != "dir":
            raise VerificationFailed(
                f"The new release is not there: {self.directory}.",
                f"the shell has just made it, the check sees {seen.kind if seen else 'nothing'}",
                "Shell and SFTP may see different trees: set ssh.sftp: off, and compare `ls` of both.",
            )
        return count(len(self.wanted), "path")

    def _wrong(self) -> list[str]:
        """The paths of the release that are not as they should be."""
        ours = [*self.settings.shared.dirs, *self.settings.shared.files]
        ours += [] if self.wanted.get("REVISION") else ["REVISION"]
        found = observe(self.host, self.directory, without=tuple(ours))
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
        everything = self.strategy.name == "cache" and (self.settings.verify == "full" or self._resumed)
        files = [e for e in self.wanted if e.kind == "file" and (everything or e.path in self._sent)]
        files = [e for e in files if e.path not in passed_over]
        if not files:
            return []
        if not self.host.has("sha256sum"):
            self.host.note("warn", "the host has no sha256sum: only sizes and modes are verified")
            return []
        found = digests(self.host, self.directory, [e.path for e in files])
        return [e.path for e in files if found.get(e.path) != e.content]

    def _links_of_live(self) -> list[str]:
        record = self.state.records.get(self.state.live or "")
        now = [*self.settings.shared.dirs, *self.settings.shared.files]
        return sorted({*now, *(record.shared if record else [])})

    def _write(self, *changed: Record) -> None:
        self.host.shell.run(f"{self.guard}{records.write(self.layout, *changed)}", what="Writing the record")

    def _tally(self, known: Known) -> Callable[[int, int], None]:
        difference = known.difference(self.wanted)
        files, size, emit, name = len(difference.uploads), difference.size, self.host.emit, self.host.name
        return lambda done, sent: emit(Progress(name, "upload", done, files, sent, size))

    def _count(self, done: Difference) -> None:
        self.result.files_uploaded += len(done.uploads)
        self.result.files_deleted += len([e for e in done.deleted if e.kind != "dir"])
        self.result.bytes_uploaded += done.size


def _matches(found: Any, wanted: Any) -> bool:
    return found is not None and bool(found.same_shape(wanted))
