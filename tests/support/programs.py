"""Programs for a host: some that lie, wait or are missing, and scripts for sshd to start."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """An empty folder that every account may read: for the head of a PATH, or a server's files."""
    folder = Path(tempfile.mkdtemp(prefix="switchover-public-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def wrapper(text: str) -> Iterator[Path]:
    """A script that sshd may start: a subsystem, a forced command."""
    with public_folder() as folder:
        yield script(folder, "run", text)


@contextlib.contextmanager
def tools(*, without: tuple[str, ...] = (), fake: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder for the host's PATH: every program but some, and some that lie."""
    with public_folder() as folder:
        for place in ("/usr/bin", "/bin"):
            for found in Path(place).iterdir():
                link = folder / found.name
                if found.name not in without and not link.is_symlink():
                    link.symlink_to(found)
        for name, text in (fake or {}).items():
            (folder / name).unlink(missing_ok=True)
            script(folder, name, text)
        yield folder


def program(folder: Path, name: str, before: str) -> Path:
    """A program `name` in `folder` that runs the script `before` and then becomes the real one; the folder,
    for the head of a PATH. The script has $real, the real one's path, and $here, the folder's.
    """
    real = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert real, f"this machine has no {name}"
    folder.mkdir(mode=0o755, exist_ok=True)
    script(folder, name, f'#!/bin/sh\nreal={real} here={folder}\n{before}\nexec {real} "$@"\n')
    return folder


def script(folder: Path, name: str, text: str) -> Path:
    """An executable file; its path."""
    made = folder / name
    made.write_text(text)
    made.chmod(0o755)
    return made
