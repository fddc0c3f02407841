"""Deploy, change, deploy, roll back on accounts with other login shells, start-up files and limits."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from fabfile import fleet
from fabfile.events import Note
from tests.integration.helpers import Site, assert_same, assert_tidy, target, write
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes accounts: root only")


def account(shell: str) -> str:
    """An account with that login shell, made once per machine."""
    name = f"sw-{Path(shell).name}"
    if name not in {entry.pw_name for entry in pwd.getpwall()}:
        subprocess.run(["useradd", "-m", "-s", shell, name], check=True)
        subprocess.run(["usermod", "-p", "*", name], check=True)
    return name


def round_of(server: Sshd, source: Path) -> list[str]:
    """The whole of it; what was told meanwhile."""
    notes: list[str] = []
    site = Site(server, server.new_dir(), {})

    def deploy() -> None:
        outcome = fleet.deploy(
            site.settings(source),
            [target(server)],
            listener=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
        )
        assert outcome.exit_code == 0, outcome.error and (outcome.error.what, outcome.error.why)
        assert_same(source, site.current)

    deploy()
    write(source, {"a": "changed", "new": "1"})
    deploy()
    site.rollback()
    assert_tidy(site)
    return notes


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", {"a": "1", "d/ü b'!\\.php": "2"})


@pytest.mark.parametrize(
    "line",
    ["export CDPATH=/tmp", "set -x", "export POSIXLY_CORRECT=1", "echo hello; echo no >&2", "PATH=/opt"],
)
def test_start_up_files(
    sshd_installed: None, source: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHLVL", raising=False)  # else bash takes itself for a shell in a shell
    user = account("/bin/bash")
    file = Path(pwd.getpwnam(user).pw_dir) / ".bashrc"
    file.write_text(f"{line}\n")
    try:
        with Sshd(user=user) as server:
            assert round_of(server, source) == []
    finally:
        file.unlink()


@pytest.mark.parametrize("allowed", [1, 2])
def test_few_sessions(sshd_installed: None, source: Path, allowed: int) -> None:
    with Sshd(extra=f"MaxSessions {allowed}") as server:
        notes = round_of(server, source)
    assert notes and all("MaxSessions" in note for note in notes)


@pytest.mark.parametrize(("shell", "why"), [("/bin/rbash", "restricted"), ("/usr/sbin/nologin", "nologin")])
def test_accounts_without_a_shell(sshd_installed: None, source: Path, shell: str, why: str) -> None:
    with Sshd(user=account(shell)) as server:
        outcome = Site(server, server.new_dir(), {}).try_deploy(source)
    assert outcome.exit_code == 1 and outcome.error and why in outcome.error.what
