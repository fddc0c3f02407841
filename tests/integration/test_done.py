"""What is said to be done is done: failures are told in the step they happened in, by their true cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.release.lock import LOST
from tests.integration.cli import Project, untouched
from tests.lab.sshd import Sshd


@pytest.fixture
def project(tmp_path: Path, sshd: Sshd, host_dir: Path) -> Project:
    return Project(tmp_path / "project", sshd, host_dir)


# -- true causes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [75, 1, 255])
def test_a_hook_that_says_our_own_words_has_lost_no_lock(project: Project, status: int) -> None:
    project.deployed()
    project.configure(hooks={"before_switch": [f"echo '{LOST}' >&2; exit {status}"]})
    with untouched(project):
        done = project.fab("deploy", "--json", code=1)
    assert "before_switch hook" in done.json["error"]["what"]
    assert project.is_tidy(), "the lock was given back"
