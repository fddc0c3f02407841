"""Several hosts as one deployment: three real sshds, each with a tree of its own under the same path."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.fab import Done
from tests.support.hosts import IsolatedHosts
from tests.support.project import DeployedSite, Project, untouched
from tests.support.waiting import Barrier
from tests.support.web import HealthPage

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root (a mount namespace for each host)"),
]


@pytest.fixture(scope="module")
def hosts(clean_environment: None, sshd_installed: None) -> Iterator[IsolatedHosts]:
    with IsolatedHosts(3) as running:
        yield running


class Fleet:
    """A project, the hosts it goes to, and the places on them."""

    def __init__(self, folder: Path, hosts: IsolatedHosts) -> None:
        self.hosts = hosts
        name = folder.name  # a deploy_to that no other test has
        self.project = Project(folder, hosts.hosts[0], hosts.common / name)
        self.places = [DeployedSite(host.site / name) for host in hosts.hosts]

    def fab(self, *args: str, code: int = 0, among: slice = slice(None)) -> Done:
        return self.project.fab(*args, code=code, hosts=self.addresses(among))

    def addresses(self, among: slice = slice(None)) -> str:
        return ",".join(host.address for host in self.hosts.hosts[among])

    def deployed(self, among: slice = slice(None)) -> str:
        """Deploy in this process; the id, which is live then on each of them."""
        outcome = self.project.deploy(targets=self.addresses(among).split(","))
        assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
        ids = {place.live for place in self.places[among]}
        assert ids == {outcome.hosts[0].release}
        return ids.pop() or ""

    def mark(self, number: int, name: str) -> None:
        """Put a file where hooks on this one host find it, as $SWITCHOVER_DEPLOY_TO/NAME."""
        (self.places[number].deploy_to / name).touch()

    def untouched(self) -> ExitStack:
        """What is live stays live on all of them, and nobody keeps a lock."""
        stack = ExitStack()
        for place in self.places:
            stack.callback(lambda place=place: assert_tidy(place))
            stack.enter_context(untouched(place))
        return stack


def assert_tidy(place: DeployedSite) -> None:
    assert place.is_tidy()


@pytest.fixture
def fleet(tmp_path: Path, hosts: IsolatedHosts) -> Fleet:
    return Fleet(tmp_path / tmp_path.name, hosts)


UNLESS_MARKED = 'test ! -e "$SWITCHOVER_DEPLOY_TO/broken"'


def test_three_hosts_are_one_deployment(fleet: Fleet) -> None:
    done = fleet.fab("deploy", "--json")
    (release,) = {entry["release"] for entry in done.json["hosts"]}
    assert [place.live for place in fleet.places] == [release] * 3
    # One entry each, in the order given, under names that can be told apart.
    assert [entry["host"] for entry in done.json["hosts"]] == [
        f"127.0.0.1:{host.port}" for host in fleet.hosts.hosts
    ]
    assert all(entry["ok"] and entry["files_uploaded"] == 3 for entry in done.json["hosts"])
    listed = fleet.fab("releases", "--json").json["hosts"]
    assert [entry["current"] for entry in listed] == [release] * 3


def test_the_hosts_of_the_configuration_are_one_deployment_too(fleet: Fleet) -> None:
    identity = str(fleet.hosts.identity)
    entries = [
        {"host": "127.0.0.1", "port": host.port, "user": host.user, "identity": identity}
        for host in fleet.hosts.hosts
    ]
    fleet.project.configure(hosts=entries)
    done = fleet.project.fab("deploy", hosts="")
    (release,) = {place.live for place in fleet.places}
    assert release is not None
    done.says(*(f"127.0.0.1:{host.port}  ✓ switch " for host in fleet.hosts.hosts))


def test_the_id_is_later_than_any_on_any_host(fleet: Fleet) -> None:
    fleet.deployed()
    (fleet.places[1].deploy_to / "releases/20991231235959").mkdir()
    fleet.fab("deploy")
    assert [place.live for place in fleet.places] == ["20991231235959-2"] * 3


def test_nothing_is_switched_before_all_are_ready(fleet: Fleet) -> None:
    """While one host is still busy, the others have built theirs, and wait."""
    first = fleet.deployed()
    barrier = Barrier(fleet.hosts.hosts[2].new_dir("barrier-"))
    slow = f'if [ -e "$SWITCHOVER_DEPLOY_TO/slow" ]; then {barrier.hook}; fi'
    fleet.mark(2, "slow")
    fleet.project.configure(hooks={"before_switch": [slow]})
    with fleet.project.start("deploy", hosts=fleet.addresses()) as running:
        barrier.wait()
        assert [place.live for place in fleet.places] == [first] * 3
        barrier.open()
        running.finish()
    (second,) = {place.live for place in fleet.places}
    assert second != first


@pytest.mark.parametrize("number", [0, 2])
def test_one_that_fails_before_the_switch_leaves_all_as_they_were(fleet: Fleet, number: int) -> None:
    first = fleet.deployed()
    fleet.mark(number, "broken")
    fleet.project.configure(hooks={"before_switch": [UNLESS_MARKED]})
    with fleet.untouched():
        done = fleet.fab("deploy", "--json", code=1)
    assert [entry["ok"] for entry in done.json["hosts"]] == [False] * 3
    assert "before_switch hook" in done.json["error"]["what"]
    assert "before_switch hook" in done.json["hosts"][number]["error"]["what"]
    for place in fleet.places:
        assert place.released == [first]
        assert sorted(place.states().values()) == ["failed", "live"]


def test_one_that_is_not_there_leaves_all_as_they_were(fleet: Fleet) -> None:
    fleet.deployed()
    with socket.socket() as unused, fleet.untouched():
        unused.bind(("127.0.0.1", 0))
        missing = f"{fleet.hosts.hosts[0].user}@127.0.0.1:{unused.getsockname()[1]}"
        done = fleet.project.fab("deploy", hosts=f"{fleet.addresses()},{missing}", code=1)
    done.says(f"No connection to {missing}", "Connection refused")


def test_one_that_is_locked_leaves_all_as_they_were(fleet: Fleet) -> None:
    fleet.deployed()
    barrier = Barrier(fleet.hosts.hosts[1].new_dir("barrier-"))
    fleet.project.configure(hooks={"before_switch": [barrier.hook]})
    with fleet.project.start("deploy", hosts=fleet.hosts.hosts[1].address) as running:
        barrier.wait()
        with untouched(fleet.places[0]), untouched(fleet.places[2]):
            done = fleet.fab("deploy", "--json", code=5)
        assert done.json["exit_code"] == 5
        done.says(f"127.0.0.1:{fleet.hosts.hosts[1].port} is locked", f"pid {running.process.pid}")
        assert [place.locked() for place in fleet.places] == [False, True, False]
        barrier.open()
        running.finish()


def test_one_that_fails_after_the_switch_takes_all_back(fleet: Fleet) -> None:
    first = fleet.deployed()
    fleet.mark(1, "broken")
    fleet.project.configure(hooks={"after_switch": [UNLESS_MARKED]})
    done = fleet.fab("deploy", "--json", code=3)
    assert "after_switch hook" in done.json["error"]["what"]
    assert done.json["hosts"][1]["error"] and not done.json["hosts"][0]["error"]
    (release,) = {entry["release"] for entry in done.json["hosts"]}
    for place in fleet.places:
        assert place.live == first and place.is_tidy()
        assert place.states() == {first: "live", release: "bad"}


def test_one_that_is_not_healthy_on_the_first_deployment_leaves_none_live(fleet: Fleet) -> None:
    with HealthPage(200, 200, 503) as site:
        fleet.project.configure(health={"url": site.url, "timeout": 1})
        fleet.fab("deploy", code=3).says("is not healthy", "last: 503", "switched back everywhere")
    assert not any(os.path.lexists(place.current) for place in fleet.places)


def test_one_that_can_not_be_put_back_needs_a_person(fleet: Fleet) -> None:
    """Its server dies after the switch. The message says what to type then, and that does help."""
    first = fleet.deployed()
    lost = fleet.hosts.hosts[1]
    barrier = Barrier(lost.new_dir("barrier-"))
    hook = f'if [ -e "$SWITCHOVER_DEPLOY_TO/dies" ]; then {barrier.hook}; fi'
    fleet.mark(1, "dies")
    reconnect = {"attempts": 2, "window": 2}
    fleet.project.configure(hooks={"after_switch": [hook]}, ssh={"reconnect": reconnect})
    with fleet.project.start("deploy", "--json", hosts=fleet.addresses()) as running:
        barrier.wait()
        lost.stop()
        try:
            done = running.finish(code=4)
        finally:
            barrier.open()
            lost.start()
    error = done.json["error"]
    assert "need" in error["what"] and "differ" in error["what"]
    assert f"127.0.0.1:{lost.port}: switched to" in error["why"]
    assert f"127.0.0.1:{fleet.hosts.hosts[0].port}: {first} is live" in error["why"]
    assert [place.live == first for place in fleet.places] == [True, False, True]
    assert [place.is_tidy() for place in fleet.places] == [True, False, True]

    commands = [line for line in error["try"].splitlines() if line.startswith("fab ")]
    assert len(commands) == 2 and error["commands"] == commands, error
    assert all(f"-H {lost.address}" in command for command in commands)
    fleet.project.configure()
    for command in commands:
        fleet.project.type(command)
    assert [place.live for place in fleet.places] == [first] * 3
    assert all(place.is_tidy() for place in fleet.places)


def test_rollback_on_all(fleet: Fleet) -> None:
    first = fleet.deployed()
    fleet.deployed()
    done = fleet.fab("rollback", "--json")
    assert {entry["release"] for entry in done.json["hosts"]} == {first}
    assert [place.live for place in fleet.places] == [first] * 3


def test_rollback_of_hosts_that_differ_goes_to_what_all_have(fleet: Fleet) -> None:
    first = fleet.deployed()
    fleet.deployed()
    fleet.deployed(slice(0, 1))
    fleet.fab("rollback")
    assert [place.live for place in fleet.places] == [first] * 3


def test_rollback_of_hosts_with_nothing_in_common_is_refused(fleet: Fleet) -> None:
    first = fleet.deployed(slice(0, 2))
    fleet.deployed(slice(0, 2))
    fleet.deployed()
    with fleet.untouched():
        done = fleet.fab("rollback", code=1)
        done.says("no good release in common", first, f"127.0.0.1:{fleet.hosts.hosts[2].port}: none")
        fleet.fab("rollback", "--to", first, code=1).says(f"There is no release {first}")


def test_a_rollback_that_fails_on_one_is_taken_back_on_all(fleet: Fleet) -> None:
    fleet.deployed()
    second = fleet.deployed()
    fleet.mark(2, "broken")
    fleet.project.configure(hooks={"after_switch": [UNLESS_MARKED]})
    fleet.fab("rollback", code=3)
    assert [place.live for place in fleet.places] == [second] * 3
