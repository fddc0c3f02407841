"""A round trip is the unit of cost: how many a command takes, which no machine's speed changes."""

from __future__ import annotations

from collections.abc import Callable

import fabric
import pytest

from fabfile import fleet
from fabfile.events import Event, StepFinished
from fabfile.settings import load
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.sshd import Sshd

DELAY = 0.2  # seconds one way: much longer than either side needs for an answer
FILES = 1000


@pytest.fixture
def project(project: Project) -> Project:
    """Three releases of a site with FILES files, a shared directory and a shared file."""
    project.configure(keep_releases=2, shared={"dirs": ["storage"], "files": [".env"]})
    project.write({f"part{n % 17}/file{n}.php": f"content {n}\n" * 50 for n in range(FILES)})
    for _ in range(3):
        project.deployed()
    return project


class Counted:
    """A command through a slow way: its round trips after the connection is up, and its bytes both ways."""

    def __init__(self, project: Project, server: Sshd, command: Callable[..., fleet.Outcome]) -> None:
        connected: list[int] = []
        with Proxy(server.port, delay=DELAY) as proxy:

            def listen(event: Event) -> None:
                if isinstance(event, StepFinished) and event.step == "connect":
                    connected.append(proxy.round_trips)

            outcome = command(
                load(project.folder / "config.yaml"),
                [fleet.Target(project.address(proxy.port), str(server.identity))],
                listener=listen,
                config=fabric.Config(runtime_ssh_path=str(project.ssh_config)),
            )
            assert outcome.ok, outcome.error
            self.host = outcome.hosts[0]
            (self.connecting,) = connected
            self.round_trips = proxy.round_trips - self.connecting
            self.bytes = proxy.uploaded + proxy.downloaded


def test_a_deployment_of_what_is_there_already(project: Project, sshd: Sshd) -> None:
    """Nothing changed: at most 10 round trips, and no list of files travels."""
    done = Counted(project, sshd, fleet.deploy)
    assert done.host.copy == "recycle" and done.host.files_uploaded == 0
    assert done.round_trips <= 10
    assert done.bytes < 130_000


def test_a_deployment_of_a_few_changes(project: Project, sshd: Sshd) -> None:
    """1 % changed: at most 8 round trips (9 where SFTP looks only after the shell is done), and little more
    than what changed travels.
    """
    project.write({f"part{n % 17}/file{n}.php": f"changed {n}\n" for n in range(FILES // 100)})
    done = Counted(project, sshd, fleet.deploy)
    assert done.host.files_uploaded == FILES // 100
    assert done.round_trips <= 8
    assert done.bytes < 130_000


def test_a_rollback(project: Project, sshd: Sshd) -> None:
    """At most 6 round trips, and 3 to connect: greetings, key exchange, login."""
    done = Counted(project, sshd, fleet.rollback)
    assert done.round_trips <= 6
    assert done.connecting <= 3
