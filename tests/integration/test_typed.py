"""What errors tell to type is complete: with the -i, --config, --env and --deploy-to that the user gave."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from tests.support.fab import Done
from tests.support.project import Project
from tests.support.waiting import Barrier

FLAGS = ("--config", "other name.yaml", "--env", "staging")


@pytest.fixture
def elsewhere(project: Project) -> Project:
    """The same site by a configuration of another name, in an environment; alone, neither leads anywhere."""
    project.configure(
        deploy_to="/nonexistent/root", environments={"staging": {"deploy_to": str(project.deploy_to)}}
    )
    (project.folder / "config.yaml").rename(project.folder / "other name.yaml")
    return project


@pytest.fixture
def held(elsewhere: Project, barrier: Barrier) -> Iterator[Project]:
    """Somebody deploys there right now."""
    keys = json.loads((elsewhere.folder / "other name.yaml").read_text())
    keys["hooks"] = {"before_switch": [barrier.hook]}
    (elsewhere.folder / "other name.yaml").write_text(json.dumps(keys))
    with elsewhere.start("deploy", *FLAGS) as running:
        barrier.wait()
        yield elsewhere
        barrier.open()
        running.finish(None)


def line(done: Done, task: str) -> str:
    """The only line of what was said that runs this task; it holds nothing else."""
    lines = [text.strip() for text in (done.stdout + done.stderr).splitlines()]
    (found,) = {text for text in lines if text.startswith("fab ") and task in shlex.split(text)}
    return found


def test_breaking_a_lock(held: Project) -> None:
    """As the refused deployment says it, and as `unlock` does."""
    refused = held.fab("deploy", *FLAGS, code=5)
    shown = held.fab("unlock", *FLAGS)
    assert line(refused, "unlock") == line(shown, "unlock")
    held.type(line(shown, "unlock"))
    assert not held.locked()


def test_what_there_is_to_go_back_to(elsewhere: Project) -> None:
    elsewhere.fab("deploy", *FLAGS)
    for args in (("rollback",), ("rollback", "--to", "20200101000000"), ("deploy", "--resume")):
        refused = elsewhere.fab(*args, *FLAGS, code=1)
        assert str(elsewhere.live) in elsewhere.type(line(refused, "releases"))


def test_looking_for_the_cause(elsewhere: Project) -> None:
    """The folder that was meant, not the one that is configured, is named by the diagnosis."""
    refused = elsewhere.fab("deploy", *FLAGS, "--deploy-to", "/proc/none", code=1)
    assert "/proc/none" in elsewhere.type(line(refused, "diagnose"), code=1)
