"""Several hosts as one deployment: prepare all, switch all, or put all back.

The functions here are what scripts import: deploy, rollback, cache_sync, releases, unlock. None of them
prints or raises for what happens on hosts; each gives an Outcome.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import fabric

from . import incidents
from .cache_sync import CacheSync
from .deployment import Deployment, Options
from .errors import (
    CommandFailed,
    CommandTimedOut,
    ConnectionFailed,
    ConnectionLost,
    FilesError,
    HostKeyRefused,
    HostNotReady,
    JobLost,
    NoSuchRelease,
    Stopped,
    SwitchoverError,
)
from .events import Listener, Output, StepFinished, StepStarted, silent
from .hosts import AT_ONCE, Target, opened
from .release import hooks, lock, records, source
from .release.layout import next_id, sort_key
from .release.lock import Owner
from .release.records import GOOD, LIVE, Record
from .remote.host import Host
from .rollback import Rollback
from .settings import Settings
from .work import HostResult, Work

__all__ = [
    "Holding",
    "Listing",
    "Options",
    "Outcome",
    "Target",
    "cache_sync",
    "deploy",
    "releases",
    "rollback",
    "unlock",
]

W = TypeVar("W", bound=Work)

HERE = "local"  # the name that events of this machine carry


@dataclass
class Outcome:
    """What became of a command. exit_code as in CONTRACT; `error` is the one to read first."""

    exit_code: int = 0
    error: SwitchoverError | None = None
    hosts: list[HostResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all of it was done."""
        return self.exit_code == 0


def deploy(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    plan: bool = False,
    options: Options | None = None,
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> Outcome:
    """Put the source live on all hosts (settings.hosts unless `targets` are given).

    plan: only find out what would be done (HostResult.plan). config: Fabric's, for keys and gateways.
    Raises ConfigError and LocalHookFailed, before anything is contacted, and SourceError, before anything is
    changed.
    """
    settings.require("source", "deploy_to")
    options = options or Options()
    owner, halt = lock.me("fab deploy"), threading.Event()
    with (
        opened(settings, targets, listener, config) as hosts,
        _source(settings, listener, hosts, build=not plan) as tree,
    ):
        fleet = _Fleet([Deployment(host, settings, owner, halt, tree, options) for host in hosts], halt)
        if plan:
            return fleet.outcome(fleet.each(Deployment.plan))
        return _release(fleet, _id_to_resume if options.resume else _common_id)


def rollback(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    to: str | None = None,
    plan: bool = False,
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> Outcome:
    """Make an earlier good release live on all hosts: `to`, or the newest before the live one.

    plan: only find out which (HostResult.release). Raises ConfigError.
    """
    settings.require("deploy_to")
    owner, halt = lock.me("fab rollback"), threading.Event()
    with opened(settings, targets, listener, config) as hosts:
        _connect_ahead(hosts)
        fleet = _Fleet([Rollback(host, settings, owner, halt) for host in hosts], halt)
        if plan:
            failed = fleet.each(Rollback.look) or fleet.try_all(lambda: _common_target(fleet, to))
            return fleet.outcome(failed)
        return _release(fleet, lambda works: _common_target(fleet, to))


def cache_sync(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    verify: bool = False,
    repair: bool = False,
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> Outcome:
    """Bring the caches up to the source without a release.

    verify: only report drift (HostResult.drift). repair: look at what the cache really holds first.
    """
    settings = replace(settings, strategy="cache")
    settings.require("source", "deploy_to")
    owner, halt = lock.me("fab cache-sync"), threading.Event()
    with (
        opened(settings, targets, listener, config) as hosts,
        _source(settings, listener, hosts, build=not verify) as tree,
    ):
        fleet = _Fleet([CacheSync(host, settings, owner, halt, tree) for host in hosts], halt)
        if verify:
            return fleet.outcome(fleet.each(CacheSync.verify))
        failed = fleet.each(CacheSync.begin) or fleet.each(lambda work: work.sync(owner.token, repair))
        return fleet.outcome(failed, fleet.each(CacheSync.unlock, always=True) if failed else [])


@dataclass
class Listing:
    """The releases of one host."""

    host: str
    current: str | None = None
    releases: list[Record] = field(default_factory=list)
    error: SwitchoverError | None = None


def releases(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> tuple[Outcome, list[Listing]]:
    """The releases of each host, oldest first. What `current` points at is `live`."""
    settings.require("deploy_to")
    halt = threading.Event()
    with opened(settings, targets, listener, config) as hosts:
        fleet = _Fleet([Work(host, settings, lock.me("fab releases"), halt) for host in hosts], halt)
        outcome = fleet.outcome(fleet.each(Work.look, stop_others=False))
        return outcome, [_listing(work) for work in fleet.works]


@dataclass
class Holding:
    """Who holds the lock of one host."""

    host: str
    held: bool = False
    owner: Owner | None = None
    broken: bool = False
    error: SwitchoverError | None = None


def unlock(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    force: bool = False,
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> tuple[Outcome, list[Holding]]:
    """Who holds the lock of each host; `force` breaks it."""
    settings.require("deploy_to")
    halt = threading.Event()
    with opened(settings, targets, listener, config) as hosts:
        fleet = _Fleet([Work(host, settings, lock.me("fab unlock"), halt) for host in hosts], halt)
        found = {work.host.name: Holding(work.host.name) for work in fleet.works}

        def look(work: Work) -> None:
            holding = found[work.host.name]
            holding.held, holding.owner = lock.holder(work.host, work.layout)
            if force and holding.held:
                lock.force(work.host, work.layout)
                holding.broken = True

        outcome = fleet.outcome(fleet.each(look, stop_others=False))
        for work in fleet.works:
            found[work.host.name].error = work.result.error
        return outcome, list(found.values())


def _release(fleet: _Fleet[Any], choose: Callable[[list[Any]], str]) -> Outcome:
    """The five phases, each on all hosts before the next; and the ways back."""
    chosen: list[str] = []
    failed = (
        fleet.each(lambda work: work.begin())
        or fleet.try_all(lambda: chosen.append(choose(fleet.works)))
        or fleet.each(lambda work: work.prepare(chosen[0]))
    )
    if failed:
        return fleet.outcome(failed, fleet.each(lambda work: work.abandon(), always=True))
    failed = (
        fleet.each(lambda work: work.switch())
        or fleet.each(lambda work: work.prove(), stop_others=False)
        or fleet.each(lambda work: work.confirm(), stop_others=False)
    )
    if failed:
        return _put_back(fleet, failed)
    for work in fleet.each(lambda work: work.finish(), stop_others=False):
        # The release is live and proven: what could not be tidied does not make it a failure.
        work.host.note(
            "warn", f"live, but not all is tidied: {work.result.error.what} {work.result.error.why}"
        )
        work.result.ok = True
    return fleet.outcome()


def _put_back(fleet: _Fleet[Any], failed: list[Work]) -> Outcome:
    any_switched = any(work.switched for work in fleet.works)
    tried = [work for work in fleet.works if work.tried_to_switch]
    stuck = fleet.each(lambda work: work.switch_back(), among=tried, always=True)
    fleet.each(lambda work: work.abandon(), among=[w for w in fleet.works if w not in stuck], always=True)
    outcome = fleet.outcome(failed)
    if stuck:
        outcome.exit_code = 4
        outcome.error = _differ(fleet, stuck, outcome.error)
    elif any_switched:
        outcome.exit_code = 3
    return outcome


def _differ(fleet: _Fleet[Any], stuck: list[Work], first: SwitchoverError | None) -> SwitchoverError:
    lines = [f"{w.host.name}: switched to {w.result.release}, could not be put back" for w in stuck]
    lines += [f"{w.host.name}: {w.state.shown} is live" for w in fleet.works if w not in stuck]
    names = ",".join(work.host.connection.address for work in stuck)
    back = stuck[0].state.live
    # We could not give the lock back there either.
    what_to_type = f"fab -H {names} unlock --force, then " + (
        f"fab -H {names} rollback --to {back}" if back else f"rm {stuck[0].layout.current} on {names}"
    )
    return SwitchoverError(
        "The hosts differ now, and this needs a person.",
        "\n".join(
            [*lines, f"first error: {first.what if first else 'unknown'} {first.why if first else ''}"]
        ),
        f"When the hosts answer again: {what_to_type}",
    )


def _common_id(works: list[Deployment]) -> str:
    """One id for all hosts, later than any release on any of them."""
    for work in works:
        if cut := records.interrupted(work.state.records, work.source.revision):
            work.host.note(
                "info", f"{cut[-1].id}, of the same source, was interrupted: --resume would finish it"
            )
    taken = set[str]().union(*(w.state.taken for w in works))
    return next_id(taken)


def _id_to_resume(works: list[Deployment]) -> str:
    """The newest interrupted deployment of this source on any host. Raises NoSuchRelease."""
    found = {r.id for w in works for r in records.interrupted(w.state.records, w.source.revision)}
    if found:
        return max(found, key=sort_key)
    raise NoSuchRelease(
        "There is no interrupted deployment of this source to resume.",
        f"the source is {works[0].source.revision}",
        "See `fab releases` for what was interrupted; deploy without --resume.",
    )


def _common_target(fleet: _Fleet[Rollback], to: str | None) -> str:
    """The release that all hosts go back to. Raises NoSuchRelease, also where they have none in common."""
    if to is not None or len(fleet.works) == 1:
        return _choose_on_all(fleet, to)
    names = [{n for n, r in w.records.items() if r.state == GOOD and not r.left} for w in fleet.works]
    lives = [w.state.live for w in fleet.works if w.state.live]
    oldest_live = min(lives, key=sort_key) if lives else "9"
    common = [name for name in set.intersection(*names) if sort_key(name) < sort_key(oldest_live)]
    if not common:
        good = "; ".join(
            f"{w.host.name}: {', '.join(sorted(n)) or 'none'}"
            for w, n in zip(fleet.works, names, strict=True)
        )
        raise NoSuchRelease(
            "The hosts have no good release in common before the live one.",
            f"good releases are {good}",
            "See `fab releases`; roll back host by host with --to ID.",
        )
    newest = max(common, key=sort_key)
    return _choose_on_all(fleet, newest)


def _choose_on_all(fleet: _Fleet[Rollback], to: str | None) -> str:
    chosen = {work.choose(to).id for work in fleet.works}
    return chosen.pop()


def _listing(work: Work) -> Listing:
    listing = Listing(work.host.name, error=work.result.error)
    if work.state is None:
        return listing
    listing.current = work.state.live
    for name in sorted(work.state.records, key=sort_key):
        record = work.state.records[name]
        if name == work.state.live:
            record = record.become(LIVE)
        elif record.state == LIVE:  # it was, before a switch whose record could not be written
            record = record.become(GOOD)
        listing.releases.append(record)
    return listing


def _connect_ahead(hosts: Sequence[Host]) -> None:
    for host in hosts[:AT_ONCE]:
        host.connect_ahead()


@contextlib.contextmanager
def _source(
    settings: Settings, listener: Listener, hosts: Sequence[Host], *, build: bool
) -> Iterator[source.Source]:
    """The source that the settings name, scanned; with `build`, after the local_build hooks. The first hosts
    are connected to meanwhile.
    """
    if build:
        _build_locally(settings, listener)
    _connect_ahead(hosts)
    chosen = settings.source
    assert chosen is not None
    with source.opened(
        path=chosen.path,
        git=chosen.git,
        ref=chosen.ref,
        subdir=chosen.subdir,
        exclude=settings.exclude,
        shared=(*settings.shared.dirs, *settings.shared.files),
    ) as tree:
        yield tree


def _build_locally(settings: Settings, listener: Listener) -> None:
    if settings.hooks.local_build:
        listener(StepStarted(HERE, "local_build"))
        hooks.run_local(
            settings.hooks.local_build,
            settings.base_dir,
            settings.ssh.command_timeout,
            lambda line: listener(Output(HERE, "local_build", line)),
        )
        listener(StepFinished(HERE, "local_build", 0.0))


def _bug(error: Exception) -> SwitchoverError:
    if os.environ.get("SWITCHOVER_DEBUG"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return SwitchoverError(
        "Switchover itself made a mistake.",
        f"{type(error).__name__}: {error} ({where})",
        "Please report it; SWITCHOVER_DEBUG=1 shows where it happened.",
    )


# Errors whose cause lies in the host or on the way to it: what a diagnosis looks into.
EXAMINABLE = (
    CommandFailed, CommandTimedOut, ConnectionFailed, ConnectionLost, FilesError, HostNotReady, JobLost,
)  # fmt: skip


def _remember(work: Work) -> None:
    """Keep what was seen of a failure for `fab diagnose`, and say so; forget it once a switch has worked."""
    error, address = work.result.error, work.host.connection.address
    if isinstance(error, EXAMINABLE) and not isinstance(error, HostKeyRefused):
        phase = work.result.failed_in or "connect"
        lasted = round(sum(work.result.phases.values()), 1)
        incidents.write(address, phase, error, seconds=lasted, reconnects=work.result.reconnects)
        if "diagnose" not in error.hint:
            look = f"`fab -H {address} diagnose` looks for the cause; it failed in {phase}."
            error.hint = f"{error.hint} {look}".lstrip()
    elif error is None and "switch" in work.result.phases:
        incidents.forget(address)


class _Fleet(Generic[W]):
    """The hosts of one command, worked on in parallel."""

    def __init__(self, works: list[W], halt: threading.Event) -> None:
        self.works = works
        self.halt = halt
        self.interrupted = threading.Event()
        for work in works:
            work.host.connection.interrupted = self.interrupted

    def each(
        self,
        do: Callable[[W], None],
        *,
        among: Sequence[W] | None = None,
        stop_others: bool = True,
        always: bool = False,
    ) -> list[W]:
        """Run `do` for each host in a thread of its own; those that failed, their first error kept.

        stop_others: one failure keeps the others from starting their next step. always: not even an
        earlier failure or an interruption keeps this from running (ways back).
        """
        if always:
            self.halt.clear()
            self.interrupted.clear()
        works = list(self.works if among is None else among)
        if not works:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(works))) as pool:
            futures = {pool.submit(self._one, do, work, stop_others): work for work in works}
            self._wait(list(futures))
        return [work for future, work in futures.items() if not future.result()]

    def _one(self, do: Callable[[W], None], work: W, stop_others: bool) -> bool:
        try:
            do(work)
            return True
        except SwitchoverError as error:
            told = work.lock_lost(error)
        except Exception as error:  # noqa: BLE001  (a bug of ours must not leave hosts locked or half switched)
            told = _bug(error)
        work.result.ok = False
        work.result.error = work.result.error or told
        if stop_others:
            self.halt.set()
        return False

    def _wait(self, futures: list[Future[bool]]) -> None:
        """Wait for all; a Ctrl-C stops the work at its next breath, and the ways back still run."""
        while True:
            try:
                wait(futures)
                return
            except KeyboardInterrupt:
                self.interrupted.set()
                self.halt.set()

    def try_all(self, decide: Callable[[], object]) -> list[W]:
        """A decision about all hosts; when it fails, all have failed with it."""
        try:
            decide()
            return []
        except SwitchoverError as error:
            for work in self.works:
                work.result.ok = False
                work.result.error = error
            return self.works

    def outcome(self, failed: Sequence[W] = (), also: Sequence[W] = ()) -> Outcome:
        """Sum up."""
        for work in self.works:
            work.lease.stop()
            work.result.reconnects = work.host.connection.reconnects
            _remember(work)
        results = [work.result for work in self.works]
        if not failed and not also:
            return Outcome(0, None, results)
        errors = [result.error for result in results if result.error]
        first = next(
            (error for error in errors if not isinstance(error, Stopped)), errors[0] if errors else None
        )
        for result in results:
            result.ok = False
        return Outcome(first.exit_code if first else 1, first, results)
