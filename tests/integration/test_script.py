"""The documented script does what it says: a deployment from Python."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.fab import REPOSITORY, TIMEOUT, TRACEBACK
from tests.support.project import Project, untouched
from tests.support.web import HealthPage

pytestmark = pytest.mark.timeout(90)
SCRIPT = REPOSITORY / "examples/deploy_script.py"


def run(project: Project, *more: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, "config.yaml", project.address(), project.server.identity, *more],
        cwd=project.folder,
        env={**project.environment, "PYTHONPATH": str(REPOSITORY)},
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
