"""File systems of our own, mounted for a test: small, full, with a quota, without inodes or symlinks."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.network import run

SIZE = 64 << 20  # bytes


@contextlib.contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """`mount HOW folder`, undone at the end whatever still uses it."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", *how, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True, timeout=30)


@contextlib.contextmanager
def image(folder: Path, *make: str, size: int = SIZE, options: str = "loop") -> Iterator[Path]:
    """A file system made by the program `make`, in a file beside the folder it is mounted on."""
    file = folder.with_name(f"{folder.name}.img")
    with file.open("wb") as disk:
        disk.truncate(size)
    try:
        run(*make, str(file))
        with mounted(folder, "-o", options, str(file)):
            yield folder
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def exfat(folder: Path, owner: str) -> Iterator[Path]:
    """A file system that knows no symlinks."""
    file = folder.with_name(f"{folder.name}.img")
    folder.mkdir(exist_ok=True)
    with file.open("wb") as disk:
        disk.truncate(SIZE)
    try:
        run("mkfs.exfat", str(file))
        device = run("losetup", "-f", "--show", str(file)).strip()
        ids = [f"{kind}={run('id', flag, owner).strip()}" for kind, flag in (("uid", "-u"), ("gid", "-g"))]
        run("mount.exfat-fuse", "-o", ",".join([*ids, "allow_other"]), device, str(folder))
        try:
            yield folder
        finally:
            for words in (["umount", str(folder)], ["losetup", "-d", device]):
                subprocess.run(words, check=False, capture_output=True, timeout=30)
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system in memory of its own at `folder`."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs"):
        yield folder


def fill_up(folder: Path) -> None:
    """Take all the room there is."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    with contextlib.suppress(OSError), (folder / "ballast2").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def fill(folder: Path, leave: int) -> None:
    """Use up the file system's room but for `leave` bytes."""
    free = os.statvfs(folder)
    size = free.f_bavail * free.f_frsize - leave
    with (folder / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    left = os.statvfs(folder)
    assert left.f_bavail * left.f_frsize <= leave, "the disk could not be filled"
