"""The steps of a deployment on one host, in order.

    begin      connect · lock · check
    prepare    compare · upload · copy · link · verify   (see build) · before_switch
    switch     switch
    prove      after_switch · health
    finish     retain · unlock

`fleet` runs each of these five on all hosts before it starts the next. Every step may be cut at any
point and run again. Nothing under what `current` points at is ever written to.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeGuard

from ..build import copying
from ..build.release_build import ReleaseBuild
from ..build.source.source import Source
from ..errors import (
    NO_SPACE,
    QUOTA,
    CommandFailed,
    ConnectionLost,
    HookFailed,
    HostNotReady,
    LockLost,
    Stopped,
)
from ..events import size
from ..remote.host import Host
from ..remote.shell import Script, failed, quote
from ..session.going_live import Switching, Tree
from ..settings import Settings
from ..site import records, retention
from ..site.layout import sort_key
from ..site.lock import Owner
from ..site.records import Record

HURRIED = 5.0  # seconds that an after_failure hook has once a signal came: whoever sent it waits no longer
MARGIN = 4 << 20  # bytes that must stay free beyond what is known to be needed


@dataclass(frozen=True)
class Options:
    """What the command line says beyond the settings."""

    from_scratch: bool = False
    skip_health: bool = False
    resume: bool = False


class Deployment(ReleaseBuild, Switching):
    """A new release on one host."""

    command = "deploy"

    def __init__(
        self,
        host: Host,
        settings: Settings,
        owner: Owner,
        halt: threading.Event,
        source: Source,
        options: Options,
    ) -> None:
        super().__init__(host, settings, owner, halt, source, options.from_scratch)
        self.options = options

    @property
    def asks_health(self) -> bool:
        """See Switching.asks_health."""
        return super().asks_health and not self.options.skip_health

    def check_room(self) -> None:
        """Refuse what can't fit, before anything is uploaded."""
        difference = self.difference()
        space = self.state.space
        if space is None:
            return
        copied = 0 if self._copies_for_free(space.free - difference.size - MARGIN) else self.wanted.size
        need = difference.size + copied + MARGIN
        inodes = len(difference.written) + (len(self.wanted) if self.settings.copy != "hardlink" else 0)
        if space.free < need:
            raise HostNotReady(
                f"There is not enough room on {self.host.name}.",
                f"{size(space.free)} are free for {self.layout.deploy_to}, {size(need)} are needed "
                f"({size(difference.size)} to upload, {size(copied)} to copy, {size(MARGIN)} in reserve)",
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
            self.result.plan = self.difference()
            self.sharing.foresee()

    def prepare(self, release: str) -> None:
        """Build the release and prove it, unseen by anybody."""
        self.id = self.result.release = release
        self.jobs.folder = f"{self.layout.jobs}/{release}"
        self._tidy()
        if self._already_live():
            return
        self.record = Record(
            release,
            records.BUILDING,
            self.source.revision,
            datetime.now(UTC).isoformat(timespec="seconds"),
            f"{self.lock.owner.user}@{self.lock.owner.machine}",
            self.wanted.size,
            self.strategy.name,
            self.shared,
            before=self.state.target,
        )
        with self.step("compare"):
            self.check_room()
        self.build()
        self.look_at_release()
        self.run_hooks("before_switch", self.settings.hooks.before_switch, self.tree, kept=False)

    @property
    def tree(self) -> Tree:
        """The new release as hooks see it."""
        return Tree(self.id, self.directory, self.source.revision)

    def switch(self) -> None:
        """Make it live; that it is ready is written down with it."""
        assert self.record is not None
        self.record = self.record.become(records.READY)
        self.go_live(self.id, Script("Writing the record", records.write(self.layout, self.record)))

    def prove(self) -> None:
        """What must hold after the switch."""
        self.after_switch(self.tree)
        if not self.options.skip_health:
            self.check_health()

    def finish(self) -> None:
        """Write down that it is good, clean up, unlock. What is live is not at stake any more."""
        assert self.record is not None
        self.record = self.record.become(records.LIVE)
        before = self.state.records.get(self.state.live or "")
        changed = [before.become(records.NOT_LIVE_ANY_MORE[before.state])] if self._replaces(before) else []
        changed += self._passed_over(before)
        self.state.records.update({r.id: r for r in changed})
        doomed = self.doomed()
        parts = [
            Script("Writing the records", records.write(self.layout, self.record, *changed), needed=False),
            *(retention.removing(self.layout, record) for record in doomed),
        ]
        wrote, *removed = self.close(parts, "retain" if doomed else "unlock")
        for record, said in zip(doomed, removed, strict=True):
            if said.status != 0:
                why = retention.why_not(self.host, self.layout, record, said)
                self.host.note("warn", f"release {record.id} could not be removed whole: {why}")
        if wrote.status != 0:
            raise failed(parts[0].what, wrote)

    def _replaces(self, before: Record | None) -> TypeGuard[Record]:
        return before is not None and before.state in (records.LIVE, records.READY)

    def _passed_over(self, before: Record | None) -> list[Record]:
        """The good releases that somebody had rolled back from: the one that was live until now is older."""
        if before is None:
            return []
        good = [r for r in self.state.records.values() if r.state == records.GOOD and not r.left]
        return [
            replace(r, left=True) for r in good if sort_key(before.id) < sort_key(r.id) < sort_key(self.id)
        ]

    def write_down(self, note: str) -> None:
        """See Switching."""
        if self.record is not None:
            self.record = replace(self.record.become(records.BAD), note=note)
            self.write_record(self.record)

    def abandon(self) -> None:
        """A failed build: run after_failure, give the space back, keep a record that says so."""
        if self.lock.number is None:
            return
        if isinstance(self.result.error, ConnectionLost):
            return  # the lease runs out by itself, and what has arrived waits for the next try
        if isinstance(self.result.error, LockLost):
            return  # somebody else is at work here now, and ends what is left of ours
        self.jobs.end()
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
        tree = self.tree if there else replace(self.tree, folder=self.layout.deploy_to)
        try:
            with self.cut_short(HURRIED):
                self.run_hooks("after_failure", commands, tree, kept=self.switched)
        except (HookFailed, Stopped) as error:  # it must keep neither the lock nor the space
            self.host.note("warn", f"{error.what} {error.why}")
            self.jobs.end()

    def when_left_alone(self, reason: str) -> str:
        """See Switching.when_left_alone."""
        return (
            records.write(self.layout, replace(self.record, state=records.BAD, note=reason))
            if self.record
            else ":"
        )

    # The parts

    def _tidy(self) -> None:
        """Pick up what an interrupted deployment has left of this one; clear away what others have left."""
        self.resumed = self.id in self.state.records
        with self.step("resume") if self.resumed else nullcontext():
            self.take_over()
        ours = {self.source.tree, f"{self.source.tree}.rsync"}
        if stale := sorted(self.state.incoming - ours):
            names = " ".join(quote(f"{self.layout.incoming}/{name}") for name in stale)
            self.host.shell.run(f"{self.guard}rm -rf {names}", what="Clearing away old uploads")

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

    def _give_space_back(self) -> str:
        """What has arrived is kept for the next try, unless it is space that we have run out of."""
        error = self.result.error
        full = isinstance(error, CommandFailed) and error.reason in (NO_SPACE, QUOTA)
        return f"rm -rf {quote(self.layout.incoming)}/*; " if full else ""
