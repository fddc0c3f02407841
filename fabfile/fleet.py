"""Several hosts as one deployment: prepare all, switch all, or put all back.

The functions here are what scripts import: deploy, rollback, cache_sync, releases, unlock. None of them
prints or raises for what happens on hosts; each gives an Outcome.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import fabric

from .build import transfers
from .build.source import source
from .commands.deployment import Deploy, Options
from .errors import SwitchoverError
from .events import Listener, Note, Output, StepFailed, StepFinished, StepStarted, silent
from .hosts import AT_ONCE, Target, opened
from .local.build import build as local_build
from .on_host import lock
from .on_host.layout import sort_key
from .on_host.lock import Owner
from .on_host.records import GOOD, LIVE, Record
from .parallel import FAB, Fleet
from .phases import OnPhase, foresee, release, sync
from .remote.host import Host
from .results import HostResult, Outcome
from .session.opening import look
from .session.session import HostAccess, HostView
from .settings import Settings
from .typed import Typed

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

HERE = "local"  # the name that events of this machine carry


def deploy(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    plan: bool = False,
    options: Options | None = None,
    listener: Listener = silent,
    config: fabric.Config | None = None,
    typed: Typed = FAB,
    on_phase: OnPhase | None = None,
) -> Outcome:
    """Put the source live on all hosts (settings.hosts unless `targets` are given).

    plan: only find out what would be done (HostResult.plan). config: Fabric's, for keys and gateways.
    typed: how to call us again, for what errors tell to type.
    on_phase: called with a host's name and a phase, before it: "open" (connect, lock, check), "begin" (decide
    on the release), "prepare" (build it, unseen), "switch", "prove" (after_switch hooks, health), "confirm".
    It is called for all hosts, each in a thread of its own, before one of them goes into the phase. What it
    raises refuses the phase: all is put back, and Outcome.error is a Refused.
    Raises ConfigError and LocalHookFailed, before anything is contacted, and SourceError, before anything is
    changed.
    """
    settings.require("source", "deploy_to")
    transfers.check_installed(settings.transfer)
    options = options or Options()
    owner, halt = lock.me("fab deploy"), threading.Event()
    with (
        opened(settings, targets, listener, config) as hosts,
        _source(settings, listener, hosts, build=not plan) as tree,
    ):
        command = Deploy(settings, tree, options)
        fleet = _fleet(hosts, settings, owner, halt, typed, settings.strategy)
        if plan:
            fleet.each(command.plan, fleet.accesses)
            return fleet.outcome()
        return release(fleet, command, on_phase)


def rollback(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    to: str | None = None,
    plan: bool = False,
    listener: Listener = silent,
    config: fabric.Config | None = None,
    typed: Typed = FAB,
    on_phase: OnPhase | None = None,
) -> Outcome:
    """Make an earlier good release live on all hosts: `to`, or the newest before the live one.

    plan: only find out which (HostResult.release). on_phase: as for deploy. Raises ConfigError.
    """
    from .commands.rollback import GoBack  # here, as in cache_sync: a deployment does not need it

    settings.require("deploy_to")
    owner, halt = lock.me("fab rollback"), threading.Event()
    with opened(settings, targets, listener, config) as hosts:
        _connect_ahead(hosts)
        command, fleet = GoBack(to), _fleet(hosts, settings, owner, halt, typed)
        return foresee(fleet, command) if plan else release(fleet, command, on_phase)


def cache_sync(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    verify: bool = False,
    repair: bool = False,
    listener: Listener = silent,
    config: fabric.Config | None = None,
    typed: Typed = FAB,
) -> Outcome:
    """Bring the caches up to the source without a release.

    verify: only report drift (HostResult.drift). repair: look at what the cache really holds first.
    """
    from .commands.cache_sync import CacheSync

    settings = replace(settings, strategy="cache")
    settings.require("source", "deploy_to")
    transfers.check_installed(settings.transfer)
    owner, halt = lock.me("fab cache-sync"), threading.Event()
    with (
        opened(settings, targets, listener, config) as hosts,
        _source(settings, listener, hosts, build=not verify) as tree,
    ):
        command = CacheSync(tree, repair)
        fleet = _fleet(hosts, settings, owner, halt, typed, settings.strategy)
        if verify:
            fleet.each(command.verify, fleet.accesses)
            return fleet.outcome()
        return sync(fleet, command)


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
        fleet = _fleet(hosts, settings, lock.me("fab releases"), halt)
        seen = fleet.each(look, fleet.accesses, stop_others=False)
        views = {view.host.name: view for view in seen.results}
        outcome = fleet.outcome()
        return outcome, [_listing(result, views.get(result.host)) for result in outcome.hosts]


@dataclass
class Holding:
    """Who holds the lock of one host. address: the host, as -H takes it."""

    host: str
    address: str = ""
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
        fleet = _fleet(hosts, settings, lock.me("fab unlock"), halt)
        found = {host.name: Holding(host.name, host.connection.address) for host in hosts}

        def look_at_lock(access: HostAccess) -> None:
            holding = found[access.host.name]
            holding.held, holding.owner = lock.holder(access.host, access.layout)
            if force and holding.held:
                lock.force(access.host, access.layout)
                holding.broken = True

        fleet.each(look_at_lock, fleet.accesses, stop_others=False)
        outcome = fleet.outcome()
        for result in outcome.hosts:
            found[result.host].error = result.error
        return outcome, list(found.values())


def _fleet(
    hosts: Sequence[Host],
    settings: Settings,
    owner: Owner,
    halt: threading.Event,
    typed: Typed = FAB,
    strategy: str = "",
) -> Fleet:
    return Fleet([HostAccess.to(host, settings, owner, halt, strategy) for host in hosts], halt, typed)


def _listing(result: HostResult, view: HostView | None) -> Listing:
    """view: None where the host could not be looked at."""
    listing = Listing(result.host, error=result.error)
    if view is None:
        return listing
    listing.current = live = view.state.live
    for name in sorted(view.state.records, key=sort_key):
        record = view.state.records[name]
        if name == live:
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
        for note in tree.notes:
            listener(Note(HERE, "warn", note))
        if settings.hooks.local_build and not build:
            _tell_unbuilt(tree, listener)
        yield tree


def _build_locally(settings: Settings, listener: Listener) -> None:
    commands, started = settings.hooks.local_build, time.monotonic()
    if not commands:
        return
    listener(StepStarted(HERE, "local_build"))
    try:
        local_build(
            commands,
            settings.base_dir,
            settings.ssh.command_timeout,
            lambda line: listener(Output(HERE, "local_build", line)),
        )
    except SwitchoverError as error:
        error.step = "local_build"
        listener(StepFailed(HERE, "local_build", time.monotonic() - started, error.what))
        raise
    listener(StepFinished(HERE, "local_build", time.monotonic() - started))


def _tell_unbuilt(tree: source.Source, listener: Listener) -> None:
    """That what is compared is a build as it lies there, and how old it is."""
    newest = max((entry.mtime for entry in tree.manifest if entry.kind == "file"), default=0)
    when = datetime.fromtimestamp(newest, UTC).isoformat(sep=" ")
    listener(
        Note(
            HERE,
            "info",
            f"nothing was built: hooks.local_build was not run, and {tree.root} is compared as it is "
            f"(its newest file is of {when[:19]} UTC)",
        )
    )
