"""What docs/ci.md shows is run as CI would run it: in an empty home, with the package, on a real server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fabfile.init.files import template
from tests.package.conftest import Installed, ran
from tests.support.project import DeployedSite
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(400)


def _github(event: str) -> Iterator[str]:
    for step in _read("github")["jobs"]["deploy"]["steps"]:
        if "run" in step and event in step.get("if", event):
            yield step["run"]


def _gitlab(job: str) -> Iterator[str]:
    found = _read("gitlab")
    yield from (*found[".switchover"]["before_script"], *found[job]["script"])


def _read(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(template(name))


@dataclass(frozen=True)
class Newcomer:
    """A project, a home in which nothing is yet, and a server."""

    folder: Path
    home: Path
    installed: Installed
    address: str
    key: Path

    def run(self, *words: object, code: int = 0, program: str = "switchover") -> str:
        """A program of the package, in the project."""
        ours = [self.installed.bin / program, "-S", self.home / "ssh_config", *words]
        return ran(ours, self.folder, code=code, HOME=str(self.home))

    def init(self, *words: object) -> str:
        """`init` with the server, and its key."""
        return self.run("-H", self.address, "-i", self.key, "init", *words)


@pytest.fixture
def newcomer(installed: Installed, tmp_path: Path, sshd: Sshd) -> Newcomer:
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    home.mkdir()
    (home / "ssh_config").touch()  # ssh -G would read the real home's, whatever HOME says
    return Newcomer(project, home, installed, f"{sshd.user}@{sshd.host}:{sshd.port}", sshd.identity)


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_the_jobs_do_what_they_say(newcomer: Newcomer, sshd: Sshd, host_dir: Path, ci: str) -> None:
    """init writes the configuration and the job; the plan changes nothing; the deployment deploys."""
    (newcomer.folder / "index.html").write_text("one\n")
    newcomer.init("--ci", ci, "--deploy-to", host_dir)
    site = DeployedSite(host_dir)
    plan, deploy = (_gitlab(job) for job in ("plan", "deploy"))
    if ci == "github":
        plan, deploy = (_github(event) for event in ("pull_request", "push"))
    for commands, is_live in ((plan, False), (deploy, True)):
        script = "\n".join(("set -e", *commands))
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=newcomer.folder, env=_given(newcomer, sshd),
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert (site.live is not None) == is_live
    assert [path.name for path in sorted(site.current.iterdir())] == ["REVISION", "index.html"]
    assert (newcomer.home / ".ssh/id_deploy").stat().st_mode & 0o777 == 0o600


def _given(newcomer: Newcomer, sshd: Sshd) -> dict[str, str]:
    """The variables of the CI, and nothing else."""
    words = ["ssh-keyscan", "-p", str(sshd.port), sshd.host]
    keys = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout
    return {
        "HOME": str(newcomer.home),
        "PATH": f"{newcomer.installed.bin}:/usr/bin:/bin",
        "SWITCHOVER": str(newcomer.installed.wheel),
        "DEPLOY_KEY": sshd.identity.read_text(),
        "KNOWN_HOSTS": keys,
        "PIP_NO_INDEX": "1",
    }


def test_a_new_user(newcomer: Newcomer, sshd: Sshd, host_dir: Path) -> None:
    """init, a look at the file, a plan, a deployment, and the tasks in a fabfile of one's own."""
    folder = newcomer.folder
    (folder / "public").mkdir()
    (folder / "public/index.html").write_text("hello\n")
    assert "switchover deploy --plan" in newcomer.init("--fabfile")
    config = folder / "config.yaml"
    text = config.read_text()
    assert f"port: {sshd.port}" in text and "source: {path: public}" in text
    (line,) = (line for line in text.splitlines() if line.startswith("deploy_to: /"))
    # As an editor on Windows would leave it.
    config.write_text(text.replace(line, f"deploy_to: {host_dir}").replace("\n", "\r\n"), newline="")
    newcomer.run("deploy", "--plan")
    newcomer.run("deploy")
    assert (host_dir / "current/index.html").read_text() == "hello\n"
    assert "already there: config.yaml" in newcomer.run("init", code=2)
    assert "live" in newcomer.run("switchover.releases", program="fab")
