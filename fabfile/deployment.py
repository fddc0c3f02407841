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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .errors import CommandFailed, HostNotReady, LockLost, Stopped, SwitchoverError, VerificationFailed
from .events import Output, Progress, StepFailed, StepFinished, StepStarted
from .release import copying, hooks, records, retention, shared, state, switch, transfers
from .release.layout import Layout
from .release.lock import LOST, Lock, Owner
from .release.manifest import Difference, Manifest
from .release.observe import observe
from .release.records import Record
from .release.source import Source
from .release.strategies import STRATEGIES
from .release.upload import Known, Place, bring
from .remote.host import Host, write_file
from .remote.shell import quote
from .settings import Settings

MARGIN = 16 << 20  # bytes that must stay free beyond what is known to be needed
SHOWN = 10  # paths named in a message


@dataclass(frozen=True)
class Options:
    """What the command line says beyond the settings."""

    from_scratch: bool = False
    skip_health: bool = False


@dataclass
class HostResult:
    """What became of one host: the `hosts` entry of CONTRACT's JSON."""

    host: str
    ok: bool = True
    release: str | None = None
    previous: str | None = None
    strategy: str = ""
    transfer: str = ""
    copy: str = ""
    files_uploaded: int = 0
    files_deleted: int = 0
    bytes_uploaded: int = 0
    reconnects: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    error: SwitchoverError | None = None
    plan: Difference | None = None
    drift: dict[str, list[str]] | None = None


class Work:
    """One host, one command: named steps, the lock, and what the host says about itself.

    halt: set when another host has failed; the next step then does not start.
    """

    def __init__(self, host: Host, settings: Settings, owner: Owner, halt: threading.Event) -> None:
        settings.require("deploy_to")
        self.host = host
        self.settings = settings
        self.layout = Layout(settings.deploy_to or "")
        self.lock = Lock(host, self.layout, owner)
        self.halt = halt
        self.result = HostResult(host.name)
        self.state: state.State = None  # type: ignore[assignment]

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A named step: timed, told, and turned into LockLost where somebody broke our lock.

        Gives a function that sets the phrase told about it.
        """
        if self.halt.is_set():
            raise Stopped(f"{self.host.name} was stopped before {name}, because another host failed.")
        emit, started, detail = self.host.emit, time.monotonic(), [""]
        emit(StepStarted(self.host.name, name))
        try:
            yield lambda text: detail.__setitem__(0, text)
        except SwitchoverError as error:
            told = self._lock_lost(error)
            emit(StepFailed(self.host.name, name, self._took(name, started), told.what))
            raise told from error
        emit(StepFinished(self.host.name, name, self._took(name, started), detail[0]))

    def _took(self, name: str, started: float) -> float:
        seconds = time.monotonic() - started
        self.result.phases[name] = round(self.result.phases.get(name, 0) + seconds, 3)
        return seconds

    def _lock_lost(self, error: SwitchoverError) -> SwitchoverError:
        if not (isinstance(error, CommandFailed) and LOST in error.why):
            return error
        return LockLost(
            f"The lock on {self.host.name} was broken while this command ran.",
            "somebody used `fab unlock --force`, or took the lock after that",
            "Nothing more was changed. Ask who did, then start again.",
        )

    @property
    def guard(self) -> str:
        """The first words of each script that changes something."""
        return self.lock.guard

    def begin(self) -> None:
        """Connect, take the lock, see that shell and SFTP agree, read the state."""
        with self.step("connect") as tell:
            facts = self.host.facts
            tell(f"{facts.user} on {facts.machine}")
        with self.step("lock"):
            self.lock.take()
        with self.step("check") as tell:
            tell(self._same_view())
            self.read_state()

    def look(self) -> None:
        """Connect and read the state; change nothing."""
        with self.step("connect"):
            self.host.facts  # noqa: B018  (asks the host)
        with self.step("check"):
            self.read_state()

    def read_state(self) -> None:
        """Read what is on the host. Raises HostNotReady where `current` can't be switched."""
        self.state = state.read(
            self.host, self.layout, (*self.settings.shared.dirs, *self.settings.shared.files)
        )
        self.state.require_link(self.layout)
        self.result.previous = self.state.live
        for name in self.state.damaged:
            self.host.note("warn", f"the record of release {name} can't be read; it is left alone")

    def _same_view(self) -> str:
        """Whether SFTP reads what the shell has just written; where not, checks go over SSH."""
        files = self.host.files
        if not files.uses_sftp:
            return "checks over SSH, as ssh.sftp: off says"
        token = self.lock.owner.token.encode()
        if token in (files.read(self.lock.owner_file) or b""):
            return "shell and SFTP agree"
        if not files.uses_sftp:
            return "checks over SSH"
        if root := self._chroot(token):
            files.sftp.root = root
            return f"shell and SFTP agree; SFTP's / is {root}"
        files.fall_back(f"SFTP does not see {self.lock.owner_file}, which the shell has just written")
        return "checks over SSH"

    def _chroot(self, token: bytes) -> str:
        """The directory that SFTP calls /, if a chroot is all that keeps the views apart."""
        root = posixpath.dirname(self.layout.deploy_to)
        sftp = self.host.files.sftp
        if sftp.root:
            return ""
        for candidate in [self.layout.deploy_to, *_upwards(root)]:
            sftp.root = candidate
            if token in (sftp.read(self.lock.owner_file) or b""):
                return candidate
        sftp.root = None
        return ""

    def unlock(self) -> None:
        """Give the lock back, if we have it."""
        if self.lock.number is not None:
            with self.step("unlock"):
                self.lock.give_back()

    def close(self) -> None:
        """Let the connection go."""
        self.result.reconnects = self.host.connection.reconnects
        self.host.close()

    def run_hooks(
        self, name: str, commands: tuple[str, ...], folder: str, release: str, revision: str
    ) -> None:
        """Run the hooks called `name` on the host, as one step."""
        if not commands:
            return
        environment = {
            "SWITCHOVER_APPLICATION": self.settings.application or "",
            "SWITCHOVER_DEPLOY_TO": self.layout.deploy_to,
            "SWITCHOVER_RELEASE": release,
            "SWITCHOVER_RELEASE_PATH": self.layout.release(release),
            "SWITCHOVER_REVISION": revision,
        }
        with self.step(name):
            hooks.run(
                self.host,
                name,
                commands,
                folder,
                environment,
                lambda line: self.host.emit(Output(self.host.name, name, line)),
            )

    def check_health(self) -> None:
        """The health check, if there is one."""
        health = self.settings.health
        if health:
            with self.step("health"):
                hooks.check_health(self.host, health.url, health.expect_status, int(health.timeout))

    def point_current(self, release: str) -> None:
        """Make `release` live."""
        with self.step("switch") as tell:
            self.tried_to_switch = True
            switch.point(self.host, self.layout, f"releases/{release}", self.guard)
            self.switched = True
            tell(f"{self.state.live or 'nothing'} → {release}")

    tried_to_switch = False  # from here on the link may be either
    switched = False

    def point_back(self, bad: Record | None) -> None:
        """Put back what was live before. Safe where the switch did not happen, or only half."""
        with self.step("switch back") as tell:
            switch.point(self.host, self.layout, self.state.target, self.guard)
            tell(f"{self.state.live or 'nothing'} is live again")
        if bad:
            self.host.shell.run(f"{self.guard}{records.write(self.layout, bad)}", what="Writing the record")


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
        """The live release's directory, as the link says it; None where nothing is live."""
        target = self.state.target
        return posixpath.normpath(posixpath.join(self.layout.deploy_to, target)) if target else None

    def upload(self, target: str, folder: str) -> None:
        """Bring `target` up to the source."""
        with self.step("upload") as tell:
            known = self._known or self.strategy.known(self)
            choice = transfers.choose(self.host, self.settings.transfer)
            self.result.transfer = choice.transfer.name
            place = Place(target, folder, f"{self.layout.incoming}/{self.id}")
            done = bring(
                self.host, place, known, self.source, choice.transfer, self._tally(known), guard=self.guard
            )
            self._count(done)
            tell(
                f"{len(done.uploads)} files by {choice.transfer.name} ({choice.why}), "
                f"{len(done.deleted)} deleted"
            )

    def copy(self, source: str) -> None:
        """Make the new release a copy of `source`."""
        with self.step("copy") as tell:
            self.result.copy = copying.copy_tree(
                self.host, source, self.directory, self.settings.copy, self.guard
            )
            if self.strategy.name == "previous":
                self.host.shell.run(
                    shared.unlink(self.directory, self._links_of_live()), what="Unlinking shared paths"
                )
            tell(self.result.copy)

    # The phases

    def check_room(self) -> None:
        """Refuse what can't fit, before anything is uploaded."""
        self._known = self.strategy.known(self)
        difference = self._known.difference(self.wanted)
        space, full = self.state.space, self.settings.copy == "full" or not self.host.facts.cp_reflink
        if space is None:
            return
        copied = self.wanted.size if full else 0
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

    def plan(self) -> None:
        """What a deployment would do. Changes nothing."""
        self.look()
        with self.step("compare"):
            self.result.plan = self.strategy.known(self).difference(self.wanted)

    def build(self, release: str) -> None:
        """Build the release and prove it, unseen by anybody."""
        self.id = self.result.release = release
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
        now_good = (
            [before.become(records.GOOD)] if before and before.state in (records.LIVE, records.READY) else []
        )
        self._write(self.record, *now_good)
        known = {**self.state.records, **{r.id: r for r in [self.record, *now_good]}}
        doomed = records.to_remove(known, self.settings.keep_releases, self.id, self.state.live)
        if doomed:
            with self.step("retain") as tell:
                gone = retention.remove(self.host, self.layout, doomed, self.guard)
                tell(f"{len(gone)} old releases removed")
        self.unlock()

    def switch_back(self) -> None:
        """The new release is bad: put the old one back."""
        self.point_back(self.record.become(records.BAD) if self.record else None)

    def abandon(self) -> None:
        """A failed build: run after_failure, give the space back, keep a record that says so."""
        if self.record is not None:
            self.after_failure()
            # A release that was live for a moment stays, to be looked at; retention removes it later.
            remove = "" if self.switched else f"rm -rf {quote(self.directory)}; "
            failed = self.record.become(records.BAD if self.switched else records.FAILED)
            self.host.shell.run(
                f"{self.guard}{remove}rm -rf {quote(self.layout.incoming)}/*; "
                f"{records.write(self.layout, failed)}",
                what="Cleaning up",
            )
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
        self.run_hooks("after_failure", commands, folder, self.id, self.source.revision)

    # The parts

    def _link(self) -> None:
        """Link what is shared, put REVISION in, keep the manifest with the release."""
        dirs, files = self.settings.shared.dirs, self.settings.shared.files
        with self.step("link") as tell:
            seeds = self._upload_seeds()
            shared.link(self.host, self.layout, self.directory, dirs, files, seeds, self.guard)
            self.host.shell.run(
                self.guard + " && ".join(self._finishing(seeds)), what="Finishing the release"
            )
            if wrong := shared.check(self.host, self.directory, (*dirs, *files)):
                raise VerificationFailed("A shared path is not linked as it should be.", "\n".join(wrong))
            for path in shared.dangling(self.host, self.layout, files):
                self.host.note(
                    "warn", f"shared/{path} is not there yet: put it at {self.layout.shared}/{path}"
                )
            tell(f"{len(dirs) + len(files)} shared paths")

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
                place,
                Known(),
                self.source,
                transfer,
                lambda files, size: None,
                wanted=Manifest(entries),
                guard=self.guard,
            )
        )
        return seeds

    def _verify(self) -> None:
        """The release is what the manifest says, seen from both sides."""
        ours = [*self.settings.shared.dirs, *self.settings.shared.files]
        ours += [] if self.wanted.get("REVISION") else ["REVISION"]
        with self.step("verify") as tell:
            seen = self.host.files.lstat(self.directory)
            if seen is None or seen.kind != "dir":
                raise VerificationFailed(
                    f"The new release is not there: {self.directory}.",
                    f"the shell has just made it, the check sees {seen.kind if seen else 'nothing'}",
                    "Run `fab diagnose`: shell and SFTP may see different trees.",
                )
            found = observe(self.host, self.directory, without=tuple(ours))
            wrong = [e.path for e in self.wanted if not _matches(found.get(e.path), e)]
            extra = [e.path for e in found if self.wanted.get(e.path) is None]
            if wrong:
                raise VerificationFailed(
                    f"The new release on {self.host.name} is not what was deployed.",
                    f"{len(wrong)} paths are missing or differ: {_some(wrong)}",
                    "The cache may have been changed by hand: deploy with --from-scratch, "
                    "or see `fab cache-sync --verify`.",
                )
            if extra and self.strategy.name == "cache":
                self.host.note(
                    "warn", f"{len(extra)} paths in the cache are not from the source: {_some(extra)}"
                )
            tell(f"{len(self.wanted)} paths")

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


class Rollback(Work):
    """Back to an earlier release on one host."""

    record: Record | None = None

    def choose(self, wanted: str | None) -> Record:
        """The release to go back to. Raises NoSuchRelease."""
        found = records.rollback_target(self.records, self.state.live, wanted)
        self.record = found
        self.result.release = found.id
        self.result.strategy = found.strategy
        return found

    @property
    def records(self) -> dict[str, Record]:
        """Releases whose directory is there."""
        return {name: r for name, r in self.state.records.items() if name in self.state.directories}

    def build(self, release: str) -> None:
        """See that the release is whole."""
        with self.step("verify"):
            manifest, _ = state.read_manifest(self.host, self.layout.state_of(release))
            if manifest is None:
                return
            found = observe(self.host, self.layout.release(release))
            missing = [e.path for e in manifest if found.get(e.path) is None]
            if missing:
                raise VerificationFailed(
                    f"Release {release} on {self.host.name} is not whole any more.",
                    f"{len(missing)} paths are missing: {_some(missing)}",
                    "Choose another with --to ID (see `fab releases`), or deploy again.",
                )

    def switch(self) -> None:
        """Make it live."""
        assert self.record is not None
        self.point_current(self.record.id)

    def prove(self) -> None:
        """The same as after a deployment: services are told, health is checked."""
        assert self.record is not None
        release = self.record
        self.run_hooks(
            "after_switch",
            self.settings.hooks.after_switch,
            self.layout.release(release.id),
            release.id,
            release.revision,
        )
        self.check_health()

    def finish(self) -> None:
        """Write down who is live and who was left."""
        assert self.record is not None
        changed = [_with(self.record.become(records.LIVE), left=False)]
        before = self.state.records.get(self.state.live or "")
        if before and before.state in (records.LIVE, records.READY, records.GOOD):
            changed.append(_with(before.become(records.GOOD), left=True))
        script = f"{self.guard}{records.write(self.layout, *changed)}"
        self.host.shell.run(script, what="Writing the records")
        self.unlock()

    def switch_back(self) -> None:
        """Put back what was live before."""
        self.point_back(None)

    def abandon(self) -> None:
        """Nothing was built: only the lock is to be given back."""
        self.unlock()

    def after_failure(self) -> None:
        """A rollback builds nothing, so there is nothing to tidy."""


class CacheSync(Deployment):
    """The cache of one host, without a release."""

    def check_drift(self) -> Manifest:
        """Compare the cache with its manifest, file by file; what it really holds."""
        known = Known(*state.read_manifest(self.host, self.layout.cache_state))
        present = self.host.files.lstat(self.layout.cache)
        held = observe(self.host, self.layout.cache, hashed=True) if present else Manifest()
        drift = held.difference(known.manifest or Manifest())
        self.result.drift = {
            "missing": [e.path for e in drift.added],
            "altered": [e.path for e in drift.changed],
            "extra": [e.path for e in drift.deleted],
        }
        return held

    def verify(self) -> None:
        """Report drift; change nothing."""
        self.look()
        with self.step("compare"):
            self.check_drift()

    def sync(self, release: str, repair: bool) -> None:
        """Bring the cache up to the source; with `repair`, whatever it holds."""
        self.id = release
        if repair:
            with self.step("compare"):
                self._known = Known(self.check_drift())
        self.upload(self.layout.cache, self.layout.cache_state)
        self.unlock()


def _with(record: Record, **changes: Any) -> Record:
    from dataclasses import replace

    return replace(record, **changes)


def _matches(found: Any, wanted: Any) -> bool:
    return found is not None and bool(found.same_shape(wanted))


def _upwards(path: str) -> Iterator[str]:
    while path and path != "/":
        yield path
        path = posixpath.dirname(path)


def _some(paths: list[str]) -> str:
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(repr(path) for path in paths[:SHOWN]) + rest
