"""What can't be printed decides nothing: the deployment ends as it would have, and its lock is given back."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.support.fab import FAB, REPOSITORY, TIMEOUT, TRACEBACK
from tests.support.project import Project
from tests.support.waiting import eventually

pytestmark = [pytest.mark.timeout(120), pytest.mark.promise("pipes")]

MUCH = "seq 1 3000; echo 'done → ✓'"
PLAIN = "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0"


def typed(project: Project, line: str) -> tuple[int, str]:
    """Have bash run a line in which FAB is fab with its own flags; its exit code, and what was seen."""
    words = ["-r", str(REPOSITORY), "-i", str(project.server.identity), "-H", project.address()]
    fab = shlex.join([str(FAB), *words, "-S", str(project.ssh_config)])
    done = subprocess.run(
        ["bash", "-c", f"{line.replace('FAB', fab)}\nexit ${{PIPESTATUS[0]}}"],
        cwd=project.folder, env=project.environment, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert TRACEBACK not in said and "made a mistake" not in said, said
    assert "Exception ignored" not in said and "BrokenPipe" not in said, said
    return done.returncode, said


LINES = [
    "FAB deploy | head -3",
    "PYTHONIOENCODING=ascii FAB deploy",
    f"{PLAIN} FAB deploy",
    "FAB deploy >/dev/full 2>&1",
    "FAB deploy >&-",
    "FAB deploy 2>&-",
    "FAB deploy <&- >&- 2>&-",
    "FAB deploy --json >/dev/full",
]


@pytest.mark.parametrize("line", LINES)
def test_a_deployment_that_works(project: Project, line: str) -> None:
    project.configure(hooks={"before_switch": [MUCH], "after_switch": [MUCH]})
    code, said = typed(project, line)
    assert code == 0, said
    assert project.live and project.states() == {project.live: "live"} and project.is_tidy()
    if line.endswith("--json >/dev/full"):
        assert "JSON document could not be written" in said


@pytest.mark.parametrize("line", [LINES[0], LINES[3]])
def test_a_deployment_that_fails_after_the_switch(project: Project, line: str) -> None:
    first = project.deployed()
    project.configure(hooks={"before_switch": [MUCH], "after_switch": [f"{MUCH}; exit 9"]})
    code, said = typed(project, line)
    assert code == 3, said
    assert project.live == first and project.is_tidy()


def test_a_reader_that_never_reads(project: Project) -> None:
    """The release is live and the lock is free before anybody has read a byte, and fab ends by itself."""
    project.configure(hooks={"before_switch": ["seq 1 30000"]})
    with project.start("deploy") as running:
        eventually(lambda: project.live is not None, "it goes live")
        eventually(project.is_tidy, "the lock is given back")
        assert running.process.wait(40) == 0
