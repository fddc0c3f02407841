"""The names that `--anonymous` takes out: known before anything is contacted, whatever comes of it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis

# Accounts that every host has: their names tell nothing, and are words of other things.
COMMON = frozenset({"root"})


def of(found: Sequence[Diagnosis]) -> Mapping[str, str]:
    """Each name, and what stands in its place: users, hosts, their addresses, this machine and its user."""
    users = {_user(), os.environ.get("USER", ""), os.environ.get("LOGNAME", ""), Path.home().name}
    hosts: dict[str, str] = {}
    for number, host in enumerate(found, 1):
        name = "host" if len(found) == 1 else f"host{number}"
        users.update({host.login.user, host.facts.get("user", "")})
        hosts |= dict.fromkeys((host.host, host.login.named, host.login.host), name)
        hosts |= host.login.others
        hosts |= dict.fromkeys(_parts(host.login.host) + _parts(host.login.named), name)
    machine = socket.gethostname()
    here = dict.fromkeys((machine, machine.split(".")[0]), "here")
    names = {**here, **hosts, **dict.fromkeys(users - COMMON, "user")}
    return {
        name: instead for name, instead in names.items() if name and name not in ("localhost", "127.0.0.1")
    }


def _parts(name: str) -> list[str]:
    """`web1` and `example.com` of `web1.example.com`; an address has none."""
    if not name or name.replace(".", "").isdigit() or ":" in name:
        return []
    first, _, domain = name.partition(".")
    return [first, *([domain] if "." in domain else [])]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's account that no list has
        return ""
