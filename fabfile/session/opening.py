"""Open a session on a host: connect, take the lock, read the state; or only look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..background import background
from ..errors import ConnectionLost
from ..on_host import state
from ..on_host.layout import Layout
from ..on_host.lock import Lock
from ..on_host.state import State
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import Script
from ..results import HostResult
from ..settings import Settings
from .agreement import agree
from .session import HostAccess, HostSession, HostView

Requirement = Callable[[HostView], None]  # raises HostNotReady where the host lacks what a later step needs


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
            tell(f"taken from {dead}, which ended without releasing it")
        access.lease.start()
    host.files.settle_by(background(lambda: agree(host, access.layout, lock, warm)))
    with access.steps.step("check") as tell:
        view = _view(access, state.parse(said, asking.what, access.layout), require)
        tell(f"{host.facts.user} on {host.facts.machine}")
        if access.settings.ssh.sftp == "require" or access.settings.transfer == "sftp":
            host.files.settle()
    jobs = _jobs(host, access.layout, lock, lock.owner.token, view.state.key)
    return HostSession(host, view.settings, view.layout, view.steps, view.state, lock, access.lease, jobs)


def take_over(session: HostSession, release: str = "") -> HostSession:
    """The session once the jobs that other commands have left are ended, and their doings were seen.

    release: the one that is to be built: jobs of an interrupted deployment of it run to their end.
    """
    host, layout = session.host, session.layout
    if release:
        jobs = _jobs(host, layout, session.lock, release, session.state.key)
        session = replace(session, jobs=jobs)
    if not session.state.jobs:
        return session
    session.jobs.end_others()
    session.jobs.settle()
    asking = _asking(session.settings, layout)
    (said,) = host.shell.batch([asking])
    found = state.parse(said, asking.what, layout)
    _note_odd(host, found, session.state)
    return replace(session, state=_usable(session.result, found, layout))


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
