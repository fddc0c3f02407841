"""Private folders for one command. What a killed command has left is cleared away by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .local_cache import cache_folder

PATIENCE = 5.0  # seconds to wait for another command that is making its folder


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder that only this account can enter, gone afterwards.

    It lies in the cache folder under a lock that ends with this process, so that the next command sees that
    nobody needs it any more. Where that is not possible it lies in the system's temporary folder. Raises
    OSError.
    """
    try:
        folder, lock = _make(cache_folder() / "scratch")
    except (OSError, RuntimeError):  # no home, a full or read-only one, a file system without locks
        with tempfile.TemporaryDirectory(prefix="switchover-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(base: Path) -> tuple[Path, int]:
    """A new locked folder below `base`, and its lock: a file descriptor. Raises OSError."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (found := base.lstat()).st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"others can change {base}")
    abandoned: list[tuple[Path, int]] = []
    with _held(base):  # else a folder could be taken for abandoned before its maker has locked it
        for path in base.iterdir():
            with contextlib.suppress(OSError):
                abandoned.append((path, _lock(path)))
        folder = Path(tempfile.mkdtemp(dir=base))
        lock = _lock(folder)
    for path, held in abandoned:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)
    return folder, lock


@contextmanager
def _held(base: Path) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            lock = _lock(base)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder for as long as the file descriptor is open. Raises BlockingIOError where somebody has."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
