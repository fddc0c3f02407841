"""The package as others get it: built from a copy of the tree, installed by plain pip into an empty venv."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fab import REPOSITORY, TRACEBACK

BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # setuptools writes words of its own there
print(build_meta.build_sdist(folder), build_meta.build_wheel(folder))
"""
PATIENCE = 300.0  # seconds for pip, on a slow network


def ran(words: Sequence[object], cwd: Path, code: int = 0, **environment: str) -> str:
    """Run a program as somebody who has nothing of ours around; what it printed, both streams."""
    path = f"{environment.pop('PATH', '')}:/usr/bin:/bin"
    kept = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith("_proxy")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL, check=False, env={**kept, "HOME": str(cwd), "PATH": path, **environment},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code and TRACEBACK not in said, f"{words} -> {done.returncode}\n{said}"
    return said


@dataclass(frozen=True)
class Installed:
    """An environment that holds the package, and nothing of the clone."""

    folder: Path
    sdist: Path
    wheel: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built and installed once for all workers."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "package"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            _install(shared)
            (shared / "done").touch()
    (sdist,), (wheel,) = shared.glob("dist/*.tar.gz"), shared.glob("dist/*.whl")
    return Installed(shared / "venv", sdist, wheel)


def _install(shared: Path) -> None:
    """tree -> sdist and wheel; sdist -> venv, with all that it needs: pip's resolver has its say once."""
    tree, folder = shared / "tree", shared / "venv"
    shutil.copytree(REPOSITORY / "fabfile", tree / "fabfile", ignore=shutil.ignore_patterns("__pycache__"))
    for file in REPOSITORY.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, tree)
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip_install(python, "setuptools>=77", cwd=shared)
    ran([python, "-c", BUILD, shared / "dist"], tree)
    (sdist,) = shared.glob("dist/*.tar.gz")
    pip_install(python, sdist, cwd=shared)


def pip_install(python: Path, what: object, cwd: Path) -> None:
    """By plain pip, whose cache the tests share; bytecode is made when it is used."""
    words = [python, "-m", "pip", "install", "-q", "--no-compile", what]
    ran(words, cwd, PIP_CACHE_DIR=str(Path(tempfile.gettempdir(), f"switchover-pip-{os.getuid()}")))


def other_pythons() -> list[str]:
    """Pythons of this machine that we name and that are not the one that runs the tests."""
    minors = [minor for minor in (11, 12, 13) if minor != sys.version_info.minor]
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *Path.home().glob(".pyenv/versions/*/bin")]
    found = (Path(folder, f"python3.{minor}") for minor in minors for folder in folders)
    return list({path.name: str(path) for path in found if _runs(path)}.values())


def _runs(python: Path) -> bool:
    """Not a shim of pyenv's that has nothing behind it."""
    if not python.is_file():
        return False
    return subprocess.run([python, "-c", ""], capture_output=True, timeout=30, check=False).returncode == 0
