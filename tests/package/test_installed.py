"""Wheel and sdist, installed by plain pip: what is in them, and that they do what a clone does."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.package.conftest import Installed, other_pythons, pip_install, ran
from tests.support.fab import REPOSITORY

pytestmark = pytest.mark.timeout(400)

TASKS = ["cache-sync", "demo", "deploy", "diagnose", "init", "releases", "rollback", "schema", "unlock"]
NAMES = ["Outcome", "Target", "cache_sync", "deploy", "diagnose", "load", "releases", "rollback", "unlock"]
DEVELOPMENT = ["matplotlib", "mypy", "ruff", "pytest", "hypothesis", "numpy", "patchwork"]


def sources() -> set[str]:
    """What fabfile/ holds, as it is called below the package."""
    folder = REPOSITORY / "fabfile"
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_wheel_and_sdist_hold_every_file(installed: Installed) -> None:
    """Python or not: templates and scripts too. And nothing else."""
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name.partition("/")[2] for name in wheel.namelist() if name.startswith("switchover/")}
        others = {name.partition("/")[0] for name in wheel.namelist()} - {"switchover"}
    assert held == sources()
    assert [name.rpartition(".")[2] for name in others] == ["dist-info"]
    with tarfile.open(installed.sdist) as sdist:
        names = {name.partition("/fabfile/")[2] for name in sdist.getnames() if "/fabfile/" in name}
    assert sources() <= names


def test_what_is_installed_is_what_runs(installed: Installed, tmp_path: Path) -> None:
    (packages,) = installed.folder.glob("lib/python*/site-packages")
    there = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert there.isdisjoint(DEVELOPMENT) and (packages / "switchover/py.typed").is_file()
    assert "No broken requirements" in ran([installed.bin / "python", "-m", "pip", "check"], tmp_path)


@pytest.mark.parametrize("words", [["switchover"], ["python", "-m", "switchover"]], ids=" ".join)
def test_the_program_lists_its_tasks(installed: Installed, tmp_path: Path, words: list[str]) -> None:
    said = ran([installed.bin / words[0], *words[1:], "--list"], tmp_path)
    assert [task for task in TASKS if f"  {task} " not in said] == []
    pipe = f"{installed.bin / words[0]} {' '.join(words[1:])} --list | head -n 1; echo ${{PIPESTATUS[0]}}"
    assert ran(["bash", "-c", pipe], tmp_path) == "Subcommands:\n0\n"
    assert "Switchover 0." in ran([installed.bin / words[0], *words[1:], "--version"], tmp_path)


def test_the_demonstration(installed: Installed, tmp_path: Path) -> None:
    assert "is live" in ran([installed.bin / "switchover", "demo"], tmp_path)


def test_the_public_names(installed: Installed, tmp_path: Path) -> None:
    """All of them, each by itself, and none that costs a script what only the program needs."""
    script = f"""
import sys, switchover
assert sorted(switchover.__all__) == sorted({[*NAMES, "ns"]}), switchover.__all__
assert "fabric" not in sys.modules
from switchover import {", ".join(NAMES)}
assert all(callable(each) for each in ({", ".join(NAMES)}))
assert "switchover.cli" not in sys.modules and "asyncssh" not in sys.modules
assert set(switchover.__all__) <= set(dir(switchover))
"""
    ran([installed.bin / "python", "-c", script], tmp_path)


def test_every_module_knows_itself_by_its_new_name(installed: Installed, tmp_path: Path) -> None:
    script = """
import importlib, pkgutil, switchover
for found in pkgutil.walk_packages(switchover.__path__, "switchover."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
    ran([installed.bin / "python", "-c", script], tmp_path)


def test_lines_to_type_name_the_program(installed: Installed, tmp_path: Path) -> None:
    """A refused connection: the line that looks for the cause."""
    (tmp_path / "index.html").write_text("hello")
    words = ["-H", "127.0.0.1:1", "deploy", "--source", ".", "--deploy-to", "/srv/x"]
    said = ran([installed.bin / "switchover", *words], tmp_path, code=1)
    assert "switchover -H 127.0.0.1:1 diagnose --deploy-to /srv/x" in said


def test_rsync_is_an_extra(installed: Installed, tmp_path: Path) -> None:
    """Asked for and not installed: exit 2 before anything is contacted, with the line that installs it."""
    words = ["-H", "127.0.0.1:1", "deploy", "--source", ".", "--deploy-to", "/srv/x", "--transfer", "rsync"]
    said = ran([installed.bin / "switchover", *words], tmp_path, code=2)
    (line,) = (line for line in said.splitlines() if "pip install" in line)
    assert "--no-deps" in line and "patchwork" in line and "nothing was contacted" in said
    (tmp_path / "config.yaml").write_text("transfer: rsync\nsource: {path: .}\ndeploy_to: /srv/x\n")
    assert line in ran([installed.bin / "switchover", "-H", "127.0.0.1:1", "cache-sync"], tmp_path, code=2)


@pytest.mark.parametrize("python", other_pythons()[-1:])
def test_the_newest_python(installed: Installed, tmp_path: Path, python: str) -> None:
    """Of those on this machine; the oldest is what runs the other tests."""
    ran([python, "-m", "venv", tmp_path / "venv"], tmp_path)
    pip_install(tmp_path / "venv/bin/python", installed.wheel, cwd=tmp_path)
    assert "deploy" in ran([tmp_path / "venv/bin/switchover", "--list"], tmp_path)
