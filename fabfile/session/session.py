"""One host as a command works on it: seen only, or under our lock. Each value exists once it is true.

HostAccess    what it takes to open a session; nothing was asked yet
HostView      connected, and the state of the site read; nothing is locked
HostSession   the same under our lock: what it takes to change anything
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ..background import background
from ..errors import ConnectionLost
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import Result, Script
from ..results import HostResult
from ..settings import Settings
from ..site import state
from ..site.layout import Layout
from ..site.lock import LEASE, RENEW, Lease, Lock, Owner
from ..site.state import State
from .agreement import agree
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


Requirement = Callable[[HostView], None]  # raises HostNotReady where the host lacks what a later step needs


@dataclass(frozen=True, eq=False)
class HostSession(HostView):
    """A host under our lock."""

    lock: Lock
    lease: Lease
    jobs: Jobs

    @property
    def guard(self) -> str:
        """The first words of each script that changes something."""
        return self.lock.guard

    def take_over(self, release: str = "") -> HostSession:
        """The session once the jobs that other commands have left are ended, and their doings were seen.

        release: the one that is to be built: jobs of an interrupted deployment of it run to their end.
        """
        jobs = _jobs(self.host, self.layout, self.lock, release, self.state.key) if release else self.jobs
        session = replace(self, jobs=jobs)
        if not self.state.jobs:
            return session
        session.jobs.end_others()
        session.jobs.settle()
        asking = _asking(self.settings, self.layout)
        (said,) = self.host.shell.batch([asking])
        found = state.parse(said, asking.what, self.layout)
        _note_odd(self.host, found, self.state)
        return replace(session, state=_usable(self.steps.result, found, self.layout))

    def close(self, scripts: Sequence[Script], step: str) -> list[Result]:
        """Run the last `scripts`, of the step `step`, and give the lock back in the same round trip; what
        the scripts left.
        """
        steps = BatchedSteps(self.steps, [step] * len(scripts) + ["unlock"])
        unlocking = Script("Unlocking", self.jobs.ending(self.lock.returning))
        with steps.running():
            results = self.host.shell.batch([*scripts, unlocking], guard=self.guard, ended=steps.ended)
        self.let_go()  # not before: to remove a large release takes longer than a lease
        return results[:-1]

    def let_go(self) -> None:
        """The lock was given back, or is left to run out."""
        self.lease.stop()
        self.lock.forget()


def look(access: HostAccess, require: Requirement = lambda view: None) -> HostView:
    """Connect and read the state; change nothing."""
    host = access.host
    _connect(access)
    with access.steps.step("check"):
        asking = _asking(access.settings, access.layout)
        facts, said = host.shell.batch([host.asking, asking])
        host.learn(facts.text)
        return _view(access, state.parse(said, asking.what, access.layout), require)


def open_session(access: HostAccess, require: Requirement = lambda view: None) -> HostSession:
    """Connect, take the lock, read the state. Meanwhile see whether shell and SFTP agree.

    Where this fails the lock may be ours already: see unlock().
    """
    host, lock = access.host, access.lock
    _connect(access)
    warm = background(host.files.warm)
    with access.steps.step("lock") as tell:
        asking = _asking(access.settings, access.layout)
        dead, said = lock.take(asking)
        if dead:
            tell(f"taken from {dead}: it ended without giving it back")
        access.lease.start()
    host.files.settle_by(background(lambda: agree(host, access.layout, lock, warm)))
    with access.steps.step("check") as tell:
        view = _view(access, state.parse(said, asking.what, access.layout), require)
        tell(f"{host.facts.user} on {host.facts.machine}")
        if access.settings.ssh.sftp == "require" or access.settings.transfer == "sftp":
            host.files.settle()
    jobs = _jobs(host, access.layout, lock, lock.owner.token, view.state.key)
    return HostSession(host, view.settings, view.layout, view.steps, view.state, lock, access.lease, jobs)


def unlock(access: HostAccess) -> None:
    """End what still runs of this command, and give the lock back, if we have it. Where the connection could
    not be had again the lease runs out by itself.
    """
    host, lock, error = access.host, access.lock, access.steps.result.error
    if not lock.held or (isinstance(error, ConnectionLost) and not host.connection.alive):
        return
    with access.steps.step("unlock"):
        access.lease.stop()
        ending = _jobs(host, access.layout, lock, lock.owner.token).ending(lock.returning)
        host.shell.run(ending, what="Unlocking")
        lock.forget()


def _connect(access: HostAccess) -> None:
    connection = access.host.connection
    with access.steps.step("connect") as tell:
        access.host.connect()
        tell(f"{connection.user}@{connection.host}")


def _asking(settings: Settings, layout: Layout) -> Script:
    return state.asking(layout, (*settings.shared.dirs, *settings.shared.files))


def _view(access: HostAccess, found: State, require: Requirement) -> HostView:
    """Raises HostNotReady where `current` can't be switched, or what `require` asks for is not there."""
    usable = _usable(access.steps.result, found, access.layout)
    _note_odd(access.host, found)
    view = HostView(access.host, access.settings, access.layout, access.steps, usable)
    require(view)
    return view


def _usable(result: HostResult, found: State, layout: Layout) -> State:
    found.require_link(layout)
    result.previous = result.live = found.live
    return found


def _note_odd(host: Host, found: State, before: State | None = None) -> None:
    """Tell what is odd on the host, and was not told before."""
    for name in found.damaged:
        if before is None or name not in before.damaged:
            host.note("warn", f"the record of release {name} can't be read; it is left alone")
    for odd in found.odd:
        if before is None or odd not in before.odd:
            host.note("warn", odd)


def _jobs(host: Host, layout: Layout, lock: Lock, name: str, key: str = "") -> Jobs:
    folder = f"{layout.jobs}/{name}"
    return Jobs(host.shell, folder, lambda text: host.note("warn", text), guard=lock.guard, key=key)
