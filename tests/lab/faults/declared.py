"""Every fault that this machine can make: one knob each, and the finding that has to name it.

A fault that is not mended by its own advice (`mends=False`) says why beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tests.support.examined import ExaminedHost
from tests.support.sshd import Sshd

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
IDLE = 3  # seconds after which the impatient servers and networks of this lab hang up
WATCH = 6.0  # seconds that the diagnosis watches idle connections here


@dataclass(frozen=True)
class Fault:
    """expects: the finding. programs: what must be installed. deep: seconds to watch idle
    connections. slow: not tried by every run of the tests.
    """

    name: str
    expects: str
    make: Callable[[], AbstractContextManager[ExaminedHost]]
    mends: bool
    deep: float | None
    programs: tuple[str, ...]
    slow: bool

    @property
    def missing(self) -> str:
        """What this machine lacks for it, or ""."""
        if os.geteuid() != 0:
            return "root"
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return ", ".join(name for name in self.programs if not shutil.which(name, path=path))


FAULTS: list[Fault] = []


def fault(
    expects: str,
    *,
    mends: bool = True,
    deep: float | None = None,
    programs: tuple[str, ...] = (),
    slow: bool = False,
) -> Callable[[Callable[[], Iterator[ExaminedHost]]], Callable[[], Iterator[ExaminedHost]]]:
    """Adds a generator that yields the host to FAULTS."""

    def declare(make: Callable[[], Iterator[ExaminedHost]]) -> Callable[[], Iterator[ExaminedHost]]:
        name = make.__name__.replace("_", " ")
        FAULTS.append(Fault(name, expects, contextlib.contextmanager(make), mends, deep, programs, slow))
        return make

    return declare


def sshd(extra: str = "", **how: object) -> Iterator[ExaminedHost]:
    """A server with these lines, and a site on it."""
    with Sshd(extra=extra, **how) as server:  # type: ignore[arg-type]
        yield ExaminedHost(server, deploy_to=server.new_dir())


def faults(expects: str, rows: Mapping[str, Callable[[], Iterator[ExaminedHost]]], **how: Any) -> None:
    """Adds several with the same finding, by name."""
    for name, make in rows.items():
        make.__name__ = name
        fault(expects, **how)(make)


@dataclass(frozen=True)
class Control:
    """A host that deployments work on. told: findings that are true of it."""

    make: Callable[[], AbstractContextManager[ExaminedHost]]
    told: frozenset[str] = frozenset()


CONTROLS: dict[str, Control] = {}


def control(name: str) -> Callable[[Callable[[], Iterator[ExaminedHost]]], None]:
    """Adds one to CONTROLS."""

    def declare(make: Callable[[], Iterator[ExaminedHost]]) -> None:
        CONTROLS[name] = Control(contextlib.contextmanager(make))

    return declare
