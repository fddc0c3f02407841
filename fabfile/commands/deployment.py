"""A deployment: what one host goes through, from its first step to its last.

    require      connect · lock · check                            (see session.open_session)
    begin        resume
    prepare      compare · upload · copy · link · verify · before_switch
    switch       switch
    prove        after_switch · health
    confirm      confirm
    finish       retain · unlock

`phases` runs each of these on all hosts before it starts the next. Every step may be cut at any point and run
again. Nothing under what `current` points at is ever written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..build import strategies
from ..build.order import Order, Plan
from ..build.release_build import ReleaseBuild, compare
from ..build.room import check_room
from ..build.sharing import Sharing
from ..build.source.source import Source
from ..build.strategies import Strategy
from ..errors import (
    NO_SPACE,
    QUOTA,
    CommandFailed,
    ConnectionLost,
    HookFailed,
    LockLost,
    NoSuchRelease,
    Stopped,
)
from ..on_host import records
from ..on_host.layout import next_id, sort_key
from ..on_host.records import Record
from ..results import HostResult
from ..session.going_live import GoingLive, require_tools
from ..session.opening import look, take_over
from ..session.services import Services, Tree
from ..session.session import HostAccess, HostSession, HostView
from ..session.steps import Steps
from ..settings import Settings

HURRIED = 5.0  # seconds that an after_failure hook has once a signal came: whoever sent it waits no longer


@dataclass(frozen=True)
class Options:
    """What the command line says beyond the settings."""

    from_scratch: bool = False
    skip_health: bool = False
    resume: bool = False


class Deploy:
    """A deployment as it is asked for, on all hosts."""

    def __init__(self, settings: Settings, source: Source, options: Options) -> None:
        self.options = options
        self.order = Order(source, options.from_scratch)
        self.strategy: Strategy = strategies.choose(settings.strategy)

    def plan(self, access: HostAccess) -> None:
        """What it would do on one host. Changes nothing."""
        view = look(access, self.strategy.require)
        with view.step("compare"):
            view.result.plan = compare(view, self.order, self.strategy).difference
            Sharing(view, self.order.source).foresee()

    def require(self, view: HostView) -> None:
        """See Command.require."""
        self.strategy.require(view)
        require_tools(view, health=not self.options.skip_health)

    def choose(self, sessions: Sequence[HostSession]) -> str:
        """The id of the new release; with --resume, that of the newest one that was interrupted."""
        interrupted = {s: records.interrupted(s.state.records, self._revision) for s in sessions}
        if self.options.resume:
            return self._to_resume({record.id for found in interrupted.values() for record in found})
        for session, found in interrupted.items():
            if found:
                session.host.note(
                    "info", f"{found[-1].id}, of the same source, was interrupted: --resume would finish it"
                )
        return next_id(set[str]().union(*(session.state.taken for session in sessions)))

    def begin(self, session: HostSession, release: str) -> Deployment:
        """Pick up what an interrupted deployment has left of this one; clear away what others have left."""
        session.result.release = release
        resumed = release in session.state.records
        with session.step("resume") if resumed else nullcontext():
            session = take_over(session, release)
            self.strategy.require(session)
        source = self.order.source
        session.clear_incoming({source.tree, f"{source.tree}.rsync"})
        before = session.state.records.get(release)
        if before is not None and session.state.live == release:
            return self._begin_switched(session, before)
        return Deployment(self, session, self._record(session, release), resumed=resumed)

    def _begin_switched(self, session: HostSession, record: Record) -> Deployment:
        """The deployment that we resume had switched here before it was cut."""
        session.result.previous = record.id
        session = replace(session, state=replace(session.state, target=record.before))
        return Deployment(self, session, record, resumed=True, switched=True)

    def _record(self, session: HostSession, release: str) -> Record:
        owner = session.lock.owner
        return Record(
            release,
            records.BUILDING,
            self._revision,
            datetime.now(UTC).isoformat(timespec="seconds"),
            f"{owner.user}@{owner.machine}",
            self.order.wanted.size,
            self.strategy.name,
            [*session.settings.shared.dirs, *session.settings.shared.files],
            before=session.state.target,
        )

    @property
    def _revision(self) -> str:
        return self.order.source.revision

    def _to_resume(self, interrupted: set[str]) -> str:
        if interrupted:
            return max(interrupted, key=sort_key)
        raise NoSuchRelease(
            "There is no interrupted deployment of this source to resume.",
            f"the source is {self._revision}",
            "Deploy without --resume. This lists what was interrupted:",
            task=records.LIST,
        )


class Deployment:
    """A new release on one host. record: of the release, as it is now."""

    def __init__(
        self,
        command: Deploy,
        session: HostSession,
        record: Record,
        *,
        resumed: bool,
        switched: bool = False,
    ) -> None:
        self.session = session
        self.settings = session.settings
        self.layout = session.layout
        self.options = command.options
        self.record = record
        self.build = ReleaseBuild(Plan(session, command.order, record, resumed), command.strategy)
        self.services = Services(session, "deploy")
        self.live = GoingLive(session, self.services, record.id, switched)
        self.tree = Tree(record.id, self.layout.release(record.id), command.order.source.revision)

    @property
    def steps(self) -> Steps:
        """The steps of this host."""
        return self.session.steps

    @property
    def result(self) -> HostResult:
        """What becomes of this host."""
        return self.session.result

    def prepare(self) -> None:
        """Build the release and prove it, unseen by anybody."""
        if self.live.switched:
            return
        with self.session.step("compare"):
            comparison = self.build.compare()
            check_room(self.session, self.build.plan.wanted, comparison.difference)
        built = self.build.build(comparison)
        self.record = built.record
        self.build.look_at_release(built)
        self.services.run_hooks("before_switch", self.settings.hooks.before_switch, self.tree, kept=False)

    def switch(self) -> None:
        """Make it live; that it is ready is written down with it."""
        self.record = self.record.become(records.READY)
        self.live.switch(self.record)

    def prove(self) -> None:
        """What must hold after the switch."""
        self.services.after_switch(self.tree)
        if not self.options.skip_health:
            self.services.check_health()

    def confirm(self) -> None:
        """See GoingLive.confirm."""
        self.live.confirm()

    def finish(self) -> None:
        """Write down that it is good, clean up, unlock. What is live is not at stake any more."""
        self.record = self.record.become(records.LIVE)
        changed = self._replaced()
        known = {**self.session.state.records, **{r.id: r for r in changed}, self.record.id: self.record}
        live = self.session.state.live
        doomed = records.to_remove(known, self.settings.keep_releases, self.record.id, live)
        self.session.close([self.record, *changed], doomed)

    def _replaced(self) -> list[Record]:
        """The records of what was live until now, and of the good releases that somebody had rolled back
        from: those are newer than it.
        """
        found = self.session.state.records
        before = found.get(self.session.state.live or "")
        if before is None:
            return []
        first = [before.become(records.NOT_LIVE_ANY_MORE[before.state])] if _was_live(before) else []
        good = [r for r in found.values() if r.state == records.GOOD and not r.left]
        between = [r for r in good if sort_key(before.id) < sort_key(r.id) < sort_key(self.record.id)]
        return [*first, *(replace(r, left=True) for r in between)]

    # The ways back

    def switch_back(self) -> None:
        """Put back what was live, and write down that the release is bad."""
        if not self.live.tried:
            return
        note = self.live.switch_back()
        if note is None:
            return
        self.record = replace(self.record.become(records.BAD), note=note)
        try:
            self.session.write(self.record)
        except CommandFailed as error:  # what is live is as it should be
            self._warn(f"{error.what} {error.why}")

    def serve_again(self) -> None:
        """See GoingLive.serve_again."""
        self.live.serve_again()

    def abandon(self) -> None:
        """A failed build: run after_failure, give the space back, keep a record that says so.

        Nothing of that after ConnectionLost: what has arrived waits for the next try. Nor after LockLost:
        somebody else is at work here now, and ends what is left of ours. The lease runs out by itself.
        """
        session = self.session
        if isinstance(self.result.error, ConnectionLost | LockLost):
            session.let_go()
            return
        session.jobs.end()
        self._after_failure()
        switched, error = self.live.switched, self.result.error
        record = self.record.become(records.BAD if switched else records.FAILED)
        # What has arrived is kept for the next try, unless it is space that we have run out of.
        full = isinstance(error, CommandFailed) and error.reason in (NO_SPACE, QUOTA)
        try:
            # A release that was live for a moment stays, to be looked at; retention removes it later.
            session.discard(record, keep=switched, uploads=full)
        except CommandFailed as error:
            self._warn(f"{error.what} {error.why}")

    def _after_failure(self) -> None:
        """The after_failure hooks, in the new release as far as it got."""
        commands = self.settings.hooks.after_failure
        if not commands:
            return
        there = self.session.is_directory(self.tree.folder)
        tree = self.tree if there else self.tree._replace(folder=self.session.layout.deploy_to)
        try:
            with self.services.cut_short(HURRIED):
                self.services.run_hooks("after_failure", commands, tree, kept=self.live.switched)
        except (HookFailed, Stopped) as error:  # it must keep neither the lock nor the space
            self._warn(f"{error.what} {error.why}")
            self.session.jobs.end()

    def _warn(self, text: str) -> None:
        self.session.host.note("warn", text)


def _was_live(record: Record) -> bool:
    return record.state in (records.LIVE, records.READY)
