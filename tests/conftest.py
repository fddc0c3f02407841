"""What every test gets: an empty home, and on request a server to deploy to."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from fabfile.demo.server import Server
from tests.support.project import Project, ProjectOn
from tests.support.proxy import Proxy
from tests.support.skipping import unavailable
from tests.support.sshd import Serve, Sshd, find_sshd
from tests.support.waiting import Barrier

# A machine under load is slow; that is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Let what the tests start have its signals, also where the tests themselves are a background job or run
    under nohup: a signal that is ignored stays so in what one starts, a handler that does nothing does not.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No test reads the developer's ~/.ssh, agent or configuration."""
    home = tempfile.mkdtemp(prefix="switchover-home-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", home)
        for name in ("SSH_AUTH_SOCK", "SWITCHOVER_CONFIG"):
            patch.delenv(name, raising=False)
        yield
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def sshd_installed() -> None:
    """For tests that start an Sshd of their own: skips where there is none, fails where CI lacks it."""
    if find_sshd() is None:
        unavailable("openssh-server is not installed")


@pytest.fixture(scope="session")
def sshd(clean_environment: None, sshd_installed: None) -> Iterator[Sshd]:
    """One OpenSSH server for this worker's tests."""
    with Sshd() as server:
        yield server


@pytest.fixture
def host_dir(sshd: Sshd) -> Iterator[Path]:
    """A fresh directory on the sshd's host, owned by its login account: a deploy_to."""
    folder = sshd.new_dir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(tmp_path: Path, sshd: Sshd, host_dir: Path) -> Project:
    """A small site, and an empty directory on the sshd's host to deploy it to."""
    return Project(tmp_path / "project", sshd, host_dir)


@pytest.fixture
def serve(clean_environment: None, sshd_installed: None) -> Iterator[Serve]:
    """Starts servers of this test alone: serve(extra=…), as Sshd takes it."""
    with contextlib.ExitStack() as stack:

        def start(**how: Any) -> Sshd:
            try:
                return stack.enter_context(Sshd(**how))
            except RuntimeError as problem:
                if "Bad configuration option" not in str(problem):
                    raise
                unavailable(f"this sshd is too old: {problem}")

        yield start


@pytest.fixture
def project_on(tmp_path: Path, serve: Serve) -> ProjectOn:
    """Makes a small site and a server of its own for it: project_on(programs={"rm": "exit 1"})."""

    def make(**how: Any) -> Project:
        server = serve(**how)
        return Project(tmp_path / "project", server, server.new_dir())

    return make


@pytest.fixture(scope="session")
def embedded(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One embedded SSH + SFTP server for this worker's tests."""
    with Server(home=tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def network(sshd: Sshd) -> Iterator[Proxy]:
    """The way to the server."""
    with Proxy(sshd.port) as proxy:
        yield proxy


@pytest.fixture
def barrier(sshd: Sshd) -> Iterator[Barrier]:
    """Holds a hook; opened at the end, so that none is left behind."""
    made = Barrier(sshd.new_dir("barrier-"))
    yield made
    made.open()
