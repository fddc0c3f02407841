"""Somebody on the host who exchanges directories for links while a deployment works."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pwd
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: Path, other: Path) -> None:
    """Give each of two paths the other's name, in one step. Raises OSError."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2", str(one))


@dataclass(frozen=True)
class Swapper:
    """Who it is: an account, that exchanges directories below these folders for one of these links."""

    user: str
    folders: list[Path]
    links: list[Path]
    seed: int


@contextlib.contextmanager
def swapping(swapper: Swapper) -> Iterator[None]:
    """While the block runs, directories are links, off and on. At the end each has its place again."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    process = context.Process(target=_swap, args=(swapper, stop), daemon=True)
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(30)
        assert process.exitcode == 0, process.exitcode


def _swap(swapper: Swapper, stop: Any) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(swapper.user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    rng = random.Random(swapper.seed)
    known: list[Path] = []
    turn = 0
    while not stop.is_set():
        if turn % 20 == 0:
            known = [path for folder in swapper.folders for path in _directories(folder)]
        turn += 1
        if not known:
            time.sleep(0.001)
            continue
        path, link = rng.choice(known), rng.choice(swapper.links)
        with contextlib.suppress(OSError):
            if path.is_symlink():
                continue
            exchange(path, link)
            time.sleep(rng.choice((0, 0, 0.0005, 0.002, 0.01)))
            exchange(path, link)
        if link.is_dir() and not link.is_symlink():  # its place went meanwhile
            _put_back(path, link)
        time.sleep(rng.choice((0, 0, 0.001, 0.005)))


def _put_back(path: Path, link: Path) -> None:
    aside = link.with_name(f"{link.name}.{time.monotonic_ns()}")
    target = link.with_name(f"{link.name}.target").readlink()
    with contextlib.suppress(OSError):
        link.rename(aside)
        link.symlink_to(target)


def _directories(folder: Path) -> list[Path]:
    found: list[Path] = []
    if folder.is_symlink():
        return found
    for at, names, _ in os.walk(folder):
        found += [Path(at) / name for name in names if not (Path(at) / name).is_symlink()]
    return found
