"""A real project to deploy: two releases of Django, fetched once per machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.skipping import unavailable

HOME = os.environ.get("HOME", "")  # the person's: read before the tests put an empty one in its place
HOME_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path(HOME or "/tmp", ".cache")) / "switchover-tests"
FETCH_TIMEOUT = 120.0  # seconds for one source archive
OLD, NEW = "5.1.4", "5.1.5"


@dataclass(frozen=True)
class Releases:
    """Two releases of a real project, unpacked. Not to be changed."""

    old: Path
    new: Path


def fetch_django() -> Releases:
    """Django's source archives, downloaded and unpacked once per machine; skips where there is no network."""
    HOME_CACHE.mkdir(parents=True, exist_ok=True)
    with (HOME_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one xdist worker fetches, the others wait
        return Releases(*(_unpacked(HOME_CACHE, version) for version in (OLD, NEW)))


def _unpacked(base: Path, version: str) -> Path:
    folder = base / f"django-{version}"
    if not folder.is_dir():
        part = base / f"django-{version}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        archive = _download(part, version)
        with tarfile.open(archive) as tar:
            tar.extractall(part / "tree", filter="data")
        (found,) = (part / "tree").iterdir()
        found.rename(folder)
        shutil.rmtree(part)
    return folder


def _download(folder: Path, version: str) -> Path:
    """The archive by pip, which knows this machine's indexes. It insists on reading the metadata first."""
    ask = ["download", "--quiet", "--no-deps", "--no-binary", "django", "-d", str(folder)]
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        command = [uv, "tool", "run", "--with", "setuptools>=75,<80", "pip", *ask, "--no-build-isolation"]
    else:
        command = [sys.executable, "-m", "pip", *ask]
    try:
        done = subprocess.run(
            [*command, f"django=={version}"],
            cwd=folder,
            env={**os.environ, "HOME": HOME},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT,
        )
        said, status = done.stderr.strip()[-600:], done.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        said, status = str(error), 1
    archives = list(folder.glob("*.tar.gz"))
    if status or not archives:
        unavailable(f"Django {version} can't be had from the package index: {said}")
    return archives[0]
