"""The documented script does what it says: a deployment from Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.errors import Refused
from tests.support.fab import REPOSITORY, TIMEOUT, TRACEBACK
from tests.support.project import Project, untouched
from tests.support.web import HealthPage

pytestmark = pytest.mark.timeout(90)
SCRIPT = REPOSITORY / "examples/deploy_script.py"


def _installed(folder: Path) -> Path:
    """A folder in which the package has the name that it is installed by."""
    here = folder / "installed"
    here.mkdir(exist_ok=True)
    if not (here / "switchover").exists():
        (here / "switchover").symlink_to(REPOSITORY / "fabfile")
    return here


def run(project: Project, *more: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, "config.yaml", project.address(), project.server.identity, *more],
        cwd=project.folder,
        env={**project.environment, "PYTHONPATH": str(_installed(project.folder))},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    assert TRACEBACK not in done.stderr and done.returncode == code, done
    return done.stdout


def test_the_script_deploys(project: Project) -> None:
    said = run(project)
    assert project.live and (project.current / "index.html").read_text() == "one\n"
    assert said == f"127.0.0.1 {project.live} live\n"


def test_the_script_takes_back_what_does_not_answer_as_it_should(project: Project) -> None:
    first = project.deployed()
    with HealthPage(200) as site:  # whose page is empty
        said = run(project, site.url)
    assert project.live == first and said == f"127.0.0.1 {first} live\n"
    assert len(project.released) == 2


def test_the_script_says_what_failed(project: Project) -> None:
    project.deployed()
    project.configure(hooks={"before_switch": ["exit 1"]})
    with untouched(project):
        assert "before_switch hook `exit 1` failed" in run(project, code=1)


def test_the_script_stays_short() -> None:
    _, _, code = SCRIPT.read_text().split('"""', 2)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    assert os.access(SCRIPT, os.R_OK)


@pytest.mark.parametrize("phase", ["open", "prepare", "switch", "prove", "confirm"])
@pytest.mark.parametrize("refusal", [ValueError("not today"), SystemExit("not today")], ids=repr)
def test_a_script_may_refuse_a_phase(project: Project, phase: str, refusal: BaseException) -> None:
    """As any failure: what was live stays or is again live, and no lock is left."""
    asked = []

    def on_phase(host: str, name: str) -> None:
        asked.append((host, name))
        if name == phase:
            raise refusal

    project.deployed()
    project.write({"index.html": "two\n"})
    with untouched(project) if phase not in ("prove", "confirm") else contextlib.nullcontext():
        before = project.live
        outcome = project.deploy(on_phase=on_phase)
    assert project.live == before and not project.locked()
    assert outcome.exit_code == (3 if phase in ("prove", "confirm") else 1) and isinstance(
        outcome.error, Refused
    )
    assert outcome.error.phase == phase and outcome.error.__cause__ is refusal
    assert "not today" in outcome.error.why and asked[-1] == ("127.0.0.1", phase)
