"""The hosts of one command: who they are, what reports call them, and their connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fabric

from . import address
from .address import Address
from .errors import ConfigError
from .events import Listener
from .remote.host import Host, connect
from .settings import HostEntry, Settings
from .typed import program

AT_ONCE = 32  # hosts worked on at the same time


@dataclass(frozen=True)
class Target:
    """A host to work on. address: [user@]host[:port]; identity: a key file, if one is named."""

    address: str
    identity: str | None = None


@contextlib.contextmanager
def opened(
    settings: Settings, targets: Sequence[Target] | None, listener: Listener, config: fabric.Config | None
) -> Iterator[list[Host]]:
    """The hosts (settings.hosts unless `targets` are given), not yet connected; closed at the end.

    A target that is one of settings.hosts has that entry's user, port and key, unless it names its own.
    Raises ConfigError where none is named, or one twice, or one that is no address.
    """
    entries = [_as_target(entry) for entry in settings.hosts]
    chosen = [_completed(target, settings.hosts) for target in targets] if targets else entries
    if not chosen:
        raise ConfigError(
            "No host is named.",
            "there is no -H, and no `hosts` in the configuration",
            f"Say `{program('-H', 'user@host')} …`, or list the hosts in config.yaml.",
        )
    hosts: list[Host] = []
    try:
        for target, name in zip(chosen, _names(chosen), strict=True):
            host = connect(name, target.address, settings.ssh, config, listener, identity=target.identity)
            hosts.append(host)
        yield hosts
    finally:
        for host in hosts:
            host.close()


def _as_target(entry: HostEntry) -> Target:
    identity = str(entry.identity) if entry.identity else None
    return Target(str(Address(entry.host, entry.user, entry.port)), identity)


def _completed(target: Target, entries: Sequence[HostEntry]) -> Target:
    """The target, with what the entry of the same host says and it leaves open."""
    given = _parsed(target.address)
    same = [entry for entry in entries if entry.host.lower() == given.host.lower()]
    for asked, key in ((given.port, "port"), (given.user, "user")):
        same = [entry for entry in same if asked and getattr(entry, key) == asked] or same
    if not same:
        return target
    if len(same) > 1:
        raise ConfigError(
            f"{target.address} may be any of {len(same)} hosts of the configuration.",
            ", ".join(_as_target(entry).address for entry in same),
            "Give its user and port with it: -H user@host:port.",
        )
    entry = _as_target(same[0])
    address = Address(given.host, given.user or same[0].user, given.port or same[0].port)
    return Target(str(address), target.identity or entry.identity)


def _parsed(text: str) -> Address:
    try:
        return address.parse(text)
    except ValueError as error:
        raise ConfigError(
            "A host is not named as it should be.", f"found {text!r}; allowed: {error}", "Correct -H."
        ) from None


def _names(targets: Sequence[Target]) -> list[str]:
    """What reports call the hosts: the bare name where it is unique, else as much as is needed."""
    full = [target.address for target in targets]
    twice = sorted({address for address in full if full.count(address) > 1})
    if twice:
        raise ConfigError("A host is named twice.", ", ".join(twice), "Name each host once.")
    parts = [_parsed(text) for text in full]
    bare = [part.host for part in parts]
    ported = [str(Address(part.host, None, part.port or 22)) for part in parts]
    for names in (bare, ported):
        if len(set(names)) == len(names):
            return names
    return full
