"""Our tasks in somebody's own fabfile, as docs/from-python.md shows: the installed package, Fabric's fab."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.conftest import Installed, ran
from tests.support.fab import REPOSITORY
from tests.support.hosts import IsolatedHosts
from tests.support.project import DeployedSite

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root (a mount namespace for each host)"),
]

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (REPOSITORY / "docs/from-python.md").read_text(), re.DOTALL | re.MULTILINE
)
FABFILE, SCRIPT = BLOCKS
CALLING = """
@task
def ship(c):
    switchover.tasks["deploy"](c)

@task(pre=[switchover.tasks["releases"]])
def after(c):
    pass

ns.add_task(ship)
ns.add_task(after)
"""


@pytest.fixture(scope="module")
def hosts(clean_environment: None, sshd_installed: None) -> Iterator[IsolatedHosts]:
    with IsolatedHosts(2) as running:
        yield running


class Team:
    """A folder with a fabfile of somebody's own, and two hosts."""

    def __init__(self, folder: Path, installed: Installed, hosts: IsolatedHosts) -> None:
        self.folder, self.installed = folder, installed
        self.places = [DeployedSite(host.site / folder.name) for host in hosts.hosts]
        self.hosts = ",".join(host.address for host in hosts.hosts)
        self.words = ["-i", hosts.identity, "-S", folder / "ssh_config"]
        (folder / "ssh_config").touch()
        (folder / "build").mkdir()
        (folder / "build/index.html").write_text("one\n")
        (folder / "fabfile.py").write_text(FABFILE + CALLING)
        config = {"deploy_to": f"{hosts.common}/{folder.name}", "source": {"path": "build"}}
        (folder / "config.yaml").write_text(json.dumps(config))

    def fab(self, *words: str, code: int = 0) -> str:
        fab = self.installed.bin / "fab"
        return ran([fab, *self.words, "-H", self.hosts, *words], self.folder, code=code)

    @property
    def live(self) -> list[str | None]:
        return [place.live for place in self.places]


@pytest.fixture
def team(tmp_path: Path, installed: Installed, hosts: IsolatedHosts) -> Team:
    return Team(tmp_path, installed, hosts)


def test_two_hosts_are_one_deployment(team: Team) -> None:
    """Beside one's own task, which Fabric calls for each of them; no fabric.yaml names an executor."""
    said = team.fab("uptime", "switchover.deploy", "--json")
    document = json.loads(said[said.index("\n{") : said.rindex("\n}") + 2])
    (release,) = {host["release"] for host in document["hosts"]}
    assert team.live == [release, release] and said.count("load average") == 2
    (team.folder / "build/index.html").write_text("two\n")
    team.fab("switchover.deploy")
    team.fab("switchover.rollback")
    assert team.live == [release, release]
    assert release in team.fab("after") and "switchover.deploy" in team.fab("--list")
    assert re.search(
        "^ *fab .* switchover.releases$", team.fab("switchover.rollback", "--to", "1", code=1), re.M
    )


def test_called_for_one_host_after_the_other(team: Team) -> None:
    said = team.fab("ship", code=2)
    assert "-H names 2 hosts" in said and "nothing was contacted" in said and team.live == [None, None]


def test_lines_to_type_have_the_name_that_was_typed(team: Team) -> None:
    """And do what they say."""
    (team.folder / "config.yaml").write_text("deploy_to: /proc/no\nsource: {path: build}\n")
    said = team.fab("switchover.deploy", code=1)
    line = next(line.strip() for line in said.splitlines() if " switchover.diagnose" in line)
    words = shlex.split(line)
    assert words[0] == "fab"
    ran([team.installed.bin / "fab", *words[1:]], team.folder, code=1)


def test_wrong_words(team: Team) -> None:
    assert "did you mean --plan?" in team.fab("switchover.deploy", "--plann", code=2)
    assert "did you mean uptime?" in team.fab("uptme", code=2)


def test_the_script_of_the_documentation(team: Team) -> None:
    script = SCRIPT.replace('[Target("deploy@web1.example.com")]', "TARGETS")
    targets = [f"Target({host!r}, {str(team.words[1])!r})" for host in team.hosts.split(",")]
    import_line = "from switchover import Target, deploy, load\n"
    script = script.replace(import_line, f"{import_line}TARGETS = [{', '.join(targets)}]\n")
    (team.folder / "script.py").write_text(script)
    python = team.installed.bin / "python"
    said = ran([python, "script.py", "--freeze"], team.folder, code=1)
    assert "has refused the phase switch" in said and team.live == [None, None]
    said = ran([python, "script.py"], team.folder)
    (release,) = set(team.live)
    assert release and said.count(f"{release} live") == 2
    for phase in ("open", "begin", "prepare", "switch", "prove", "confirm"):
        assert said.count(phase) == 2
