"""One host as a command works on it: seen only, or under our lock. Each value exists once it is true.

HostAccess    what it takes to open a session; nothing was asked yet
HostView      connected, and the state of the site read; nothing is locked
HostSession   the same under our lock: what it takes to change anything
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..on_host import records, retention, went_back
from ..on_host.layout import Layout
from ..on_host.lock import LEASE, RENEW, Lease, Lock, Owner
from ..on_host.records import Record
from ..on_host.state import State
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import Script, failed, quote
from ..results import HostResult
from ..settings import Settings
from . import switch
from .lost_lock import LostLock
from .steps import BatchedSteps, Steps, Tell


@dataclass(frozen=True, eq=False)
class HostAccess:
    """A host that a command is to work on, not asked anything yet."""

    host: Host
    settings: Settings
    layout: Layout
    steps: Steps
    lock: Lock
    lease: Lease

    @classmethod
    def to(
        cls, host: Host, settings: Settings, owner: Owner, halt: threading.Event, strategy: str = ""
    ) -> HostAccess:
        """owner: whoever runs the command. halt: see Steps. strategy: as its result names it.

        Raises ConfigError where deploy_to is missing.
        """
        settings.require("deploy_to")
        layout = Layout(settings.deploy_to or "")
        # A lock is one host's: of two names of one place only one gets it.
        lock = Lock(host, layout, owner.again(), owner.token)
        within = settings.confirm.within if settings.confirm else LEASE
        steps = Steps(host, HostResult(host.name, strategy=strategy), halt, LostLock(host, lock).explain)
        return cls(host, settings, layout, steps, lock, Lease(lock, min(RENEW, within / 3)))


@dataclass(frozen=True, eq=False)
class HostView:
    """A host whose state was read."""

    host: Host
    settings: Settings
    layout: Layout
    steps: Steps
    state: State

    @property
    def result(self) -> HostResult:
        """What becomes of this host."""
        return self.steps.result

    @property
    def step(self) -> Callable[[str], AbstractContextManager[Tell]]:
        """See Steps.step."""
        return self.steps.step

    @property
    def live_directory(self) -> str | None:
        """The live release's directory, as the link says it; None where the link is missing or dangles."""
        target = self.state.target
        if target is None or not self.state.leads:
            return None
        return posixpath.normpath(posixpath.join(self.layout.deploy_to, target))


@dataclass(frozen=True, eq=False)
class HostSession(HostView):
    """A host under our lock, and the verbs by which its site is changed: few and wide, a round trip each."""

    lock: Lock
    lease: Lease
    jobs: Jobs

    @property
    def guard(self) -> str:
        """The first words of each script that changes something."""
        return self.lock.guard

    def is_directory(self, path: str) -> bool:
        """Whether the shell sees a directory there."""
        return self.host.shell.run(f"[ -d {quote(path)} ]", check=False, what="Looking").status == 0

    def clear_incoming(self, spared: Collection[str]) -> None:
        """Remove uploads that were never completed, but for these names."""
        if stale := sorted(self.state.incoming - set(spared)):
            names = " ".join(quote(f"{self.layout.incoming}/{name}") for name in stale)
            self.host.shell.run(f"{self.guard}rm -rf {names}", what="Clearing away old uploads")

    def publish(self, target: str | None, *written: Record) -> None:
        """Make `current` say `target`, or be gone (None), once these records are written; in one round trip.

        Seen from the other side afterwards. Raises HostNotReady, FilesError: see switch.point.
        """
        first = [Script("Writing the record", records.write(self.layout, *written))] if written else []
        switch.point(self.host, self.layout, target, self.guard, first)

    def write(self, record: Record) -> None:
        """Write a record."""
        script = f"{self.guard}{records.write(self.layout, record)}"
        self.host.shell.run(script, what="Writing the record")

    def discard(self, record: Record, *, keep: bool, uploads: bool) -> None:
        """Give up a release: its record is `record`, its tree is removed. keep: not the tree, which was live;
        uploads: what has arrived goes as well.
        """
        release, current = quote(self.layout.release(record.id)), quote(self.layout.current)
        # What is live is never removed, whatever we believe.
        live = f'[ "$(readlink {current})" = {quote(f"releases/{record.id}")} ]'
        remove = "" if keep else f"{live} || rm -rf {release}; "
        clear = f"rm -rf {quote(self.layout.incoming)}/*; " if uploads else ""
        script = f"{self.guard}{remove}{clear}{records.write(self.layout, record)}"
        self.host.shell.run(script, what="Cleaning up")

    def close(self, written: Sequence[Record], doomed: Sequence[Record] = ()) -> None:
        """Write the last records, remove the `doomed` releases, and give the lock back, in one round trip.

        Raises CommandFailed where the records could not be written; a release that stays is only told of.
        """
        # What the host did by itself is no news any more.
        forget = f"{went_back.forgetting(self.layout)}; " if self.state.went_back else ""
        text = f"{forget}{records.write(self.layout, *written)}"
        writing = Script("Writing the records", text, needed=False)
        removing = [retention.removing(self.layout, doomed)] if doomed else []
        unlocking = Script("Unlocking", self.jobs.ending(self.lock.returning))
        names = ["retain" if doomed else "unlock"] * (1 + len(removing)) + ["unlock"]
        steps = BatchedSteps(self.steps, names)
        with steps.running():
            wrote, *removed, _ = self.host.shell.batch(
                [writing, *removing, unlocking], guard=self.guard, ended=steps.ended
            )
        self.let_go()  # not before: to remove a large release takes longer than a lease
        for said in removed:
            for release, why in retention.left(self.host, self.layout, doomed, said).items():
                self.host.note("warn", f"release {release} could not be removed completely: {why}")
        if wrote.status != 0:
            raise failed(writing.what, wrote)

    def let_go(self) -> None:
        """The lock was given back, or is left to run out."""
        self.lease.stop()
        self.lock.forget()
