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

from .build.source import source
from .commands.cache_sync import CacheSync
from .commands.deployment import Deployment, Options
from .commands.rollback import Rollback
from .errors import NoSuchRelease, SwitchoverError
from .events import Listener, Note, Output, StepFailed, StepFinished, StepStarted, silent
from .hosts import AT_ONCE, Target, opened
from .local.build import build as local_build
from .phases import FAB, Fleet, release
from .remote.host import Host
from .results import Outcome
from .session.session import HostSession
from .settings import Settings
from .site import lock, records
from .site.layout import next_id, sort_key
from .site.lock import Owner
from .site.records import GOOD, LIVE, Record
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
) -> Outcome:
    """Put the source live on all hosts (settings.hosts unless `targets` are given).

    plan: only find out what would be done (HostResult.plan). config: Fabric's, for keys and gateways.
    typed: how to call us again, for what errors tell to type.
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
        fleet = Fleet([Deployment(host, settings, owner, halt, tree, options) for host in hosts], halt, typed)
        if plan:
            return fleet.outcome(fleet.each(Deployment.plan))
        return release(fleet, _id_to_resume if options.resume else _common_id)


def rollback(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    to: str | None = None,
    plan: bool = False,
    listener: Listener = silent,
    config: fabric.Config | None = None,
    typed: Typed = FAB,
) -> Outcome:
    """Make an earlier good release live on all hosts: `to`, or the newest before the live one.

    plan: only find out which (HostResult.release). Raises ConfigError.
    """
    settings.require("deploy_to")
    owner, halt = lock.me("fab rollback"), threading.Event()
    with opened(settings, targets, listener, config) as hosts:
        _connect_ahead(hosts)
        fleet = Fleet([Rollback(host, settings, owner, halt) for host in hosts], halt, typed)
        if plan:
            failed = fleet.each(Rollback.look) or fleet.try_all(lambda: _common_target(fleet, to))
            return fleet.outcome(failed)
        return release(fleet, lambda works: _common_target(fleet, to))


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
    settings = replace(settings, strategy="cache")
    settings.require("source", "deploy_to")
    owner, halt = lock.me("fab cache-sync"), threading.Event()
    with (
        opened(settings, targets, listener, config) as hosts,
        _source(settings, listener, hosts, build=not verify) as tree,
    ):
        fleet = Fleet([CacheSync(host, settings, owner, halt, tree) for host in hosts], halt, typed)
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
        fleet = Fleet([HostSession(host, settings, lock.me("fab releases"), halt) for host in hosts], halt)
        outcome = fleet.outcome(fleet.each(HostSession.look, stop_others=False))
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
        fleet = Fleet([HostSession(host, settings, lock.me("fab unlock"), halt) for host in hosts], halt)
        found = {work.host.name: Holding(work.host.name) for work in fleet.works}

        def look(work: HostSession) -> None:
            holding = found[work.host.name]
            holding.held, holding.owner = lock.holder(work.host, work.layout)
            if force and holding.held:
                lock.force(work.host, work.layout)
                holding.broken = True

        outcome = fleet.outcome(fleet.each(look, stop_others=False))
        for work in fleet.works:
            found[work.host.name].error = work.result.error
        return outcome, list(found.values())


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


def _common_target(fleet: Fleet[Rollback], to: str | None) -> str:
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


def _choose_on_all(fleet: Fleet[Rollback], to: str | None) -> str:
    chosen = {work.choose(to).id for work in fleet.works}
    return chosen.pop()


def _listing(work: HostSession) -> Listing:
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
