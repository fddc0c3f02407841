"""The hosts of one command: who they are, what reports call them, and their connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fabric

from .errors import ConfigError
from .events import Listener
from .remote.host import Host, connect
from .settings import Settings

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

    Raises ConfigError where none is named, or one twice.
    """
    chosen = list(targets) if targets else [_as_target(entry) for entry in settings.hosts]
    if not chosen:
        raise ConfigError(
            "No host is named.",
            "there is no -H, and no `hosts` in the configuration",
            "Say `fab -H user@host …`, or list the hosts in config.yaml.",
        )
    hosts: list[Host] = []
    try:
        for target, name in zip(chosen, _names(chosen), strict=True):
            how = {"connect_kwargs": {"key_filename": [target.identity]}} if target.identity else {}
            hosts.append(connect(name, target.address, settings.ssh, config, listener, **how))
        yield hosts
    finally:
        for host in hosts:
            host.close()


def _as_target(entry: Any) -> Target:
    name = f"[{entry.host}]" if ":" in entry.host and entry.port else entry.host
    address = (f"{entry.user}@" if entry.user else "") + name + (f":{entry.port}" if entry.port else "")
    return Target(address, str(entry.identity) if entry.identity else None)


def _names(targets: Sequence[Target]) -> list[str]:
    """What reports call the hosts: the bare name where it is unique, else as much as is needed."""
    full = [target.address for target in targets]
    twice = sorted({address for address in full if full.count(address) > 1})
    if twice:
        raise ConfigError("A host is named twice.", ", ".join(twice), "Name each host once.")
    parts = [fabric.Connection.derive_shorthand(None, address) for address in full]
    bare = [part["host"] for part in parts]
    ported = [f"{part['host']}:{part['port'] or 22}" for part in parts]
    for names in (bare, ported):
        if len(set(names)) == len(names):
            return names
    return full
