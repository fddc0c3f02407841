"""What is said to be done is done: failures are told in the step they happened in, by their true cause."""

from __future__ import annotations

import pytest

from fabfile.on_host.lock import LOST
from tests.support.fab import Done
from tests.support.programs import tools
from tests.support.project import Project, untouched
from tests.support.sshd import Sshd
from tests.support.web import Service

# -- true causes -----------------------------------------------------------------------------------------


@pytest.mark.promise("hook-words")
@pytest.mark.parametrize("status", [75, 1, 255])
def test_a_hook_that_says_our_own_words_has_lost_no_lock(project: Project, status: int) -> None:
    project.deployed()
    project.configure(hooks={"before_switch": [f"echo '{LOST}' >&2; exit {status}"]})
    with untouched(project):
        done = project.fab("deploy", "--json", code=1)
    error = done.json["error"]
    assert "before_switch hook" in error["what"] and error["step"] == "before_switch"
    assert (error["status"], error["output"]) == (status, LOST)
    assert project.is_tidy(), "the lock was given back"


# -- after a switch back ---------------------------------------------------------------------------------

SEEN = 'echo "$SWITCHOVER_COMMAND $SWITCHOVER_RELEASE $SWITCHOVER_REVISION $(cat index.html)" >> ../../seen'


def seen(project: Project) -> list[list[str]]:
    """What each run of the hook SEEN saw: command, release, revision, the page in its folder."""
    return [line.split() for line in (project.deploy_to / "seen").read_text().splitlines()]


def test_what_was_live_is_served_again_after_an_unhealthy_release(project: Project) -> None:
    """The service has loaded the new code when the health check fails: it must not go on with it."""
    with Service(project.deploy_to) as service:
        hooks = {"after_switch": [SEEN, service.hook]}
        project.configure(hooks=hooks, health=service.health)
        first = project.deployed()
        project.write({"index.html": "bad\n"})
        done = project.fab("deploy", "--json", code=3)
        assert service.loaded == "one\n" and service.reloads == 3
    revision = (project.current / "REVISION").read_text().strip()
    assert seen(project)[2] == ["switch-back", first, revision, "one"]
    assert [row[0] for row in seen(project)] == ["deploy", "deploy", "switch-back"]
    assert done.host["live"] == first
    assert done.host["switched_back"] == {"after_switch": "ok", "health": "ok"}
    done.says("is not healthy", f"{first} is live again; its after_switch hooks have run; it is healthy")
    assert project.is_tidy()


def test_what_was_live_is_served_again_after_a_rollback_that_failed(project: Project) -> None:
    project.write({"index.html": "bad\n"})
    first = project.deployed()
    project.write({"index.html": "two\n"})
    second = project.deployed()
    with Service(project.deploy_to) as service:
        project.configure(hooks={"after_switch": [SEEN, service.hook]}, health=service.health)
        done = project.fab("rollback", "--json", code=3)
        assert service.loaded == "two\n"
    assert [row[:2] for row in seen(project)] == [["rollback", first], ["switch-back", second]]
    assert (done.host["live"], project.live) == (second, second)


def test_a_service_that_can_not_be_told_needs_a_person(project: Project) -> None:
    """It has loaded the new code, and the first hook fails in the old release: it may go on with the new."""
    first = project.deployed()
    hook = f"[ $SWITCHOVER_RELEASE != {first} ]"
    project.configure(hooks={"after_switch": [hook, "exit 9"]})
    done = project.fab("deploy", "--json", code=4)
    assert project.live == first and done.host["live"] == first and project.is_tidy()
    done.says(f"services may still run {done.host['release']}", "by hand", "ssh -p", str(project.current))
    # Where each hook that was begun has run again, nothing of the new release is left.
    project.configure(hooks={"after_switch": ["true", "exit 9"]})
    done = project.fab("deploy", "--json", code=3)
    assert done.host["switched_back"] == {"after_switch": "failed", "health": "none"}


def test_nothing_is_restarted_where_nothing_was_live_before(project: Project) -> None:
    project.configure(hooks={"after_switch": [SEEN, "exit 9"]})
    done = project.fab("deploy", "--json", code=3)
    assert len(seen(project)) == 1
    assert done.host["live"] is None and not project.current.is_symlink()
    done.says("nothing is live, as before; services were not told")


def fab_on(project: Project, server: Sshd, *words: str, code: int = 0) -> Done:
    """Another server for the same deploy_to: its own address and key."""
    before, project.server = project.server, server
    try:
        return project.fab(*words, code=code)
    finally:
        project.server = before


# -- rollback --------------------------------------------------------------------------------------------


def releases(project: Project, count: int) -> list[str]:
    made = []
    for n in range(count):
        project.write({"index.html": f"{n}\n"})
        made.append(project.deployed())
    return made


def rolled_back(project: Project, *words: str) -> str:
    project.fab("rollback", *words)
    assert project.live
    return project.live


def test_a_rollback_goes_to_the_newest_good_release_before_the_live_one(project: Project) -> None:
    """Also after somebody has gone back and forth: being rolled back from makes no release bad."""
    first, second, third = releases(project, 3)
    assert rolled_back(project) == second
    assert rolled_back(project) == first
    assert rolled_back(project, "--to", third) == third
    assert rolled_back(project) == second
    project.fab("rollback", "--to", first)
    project.fab("rollback", code=1).says("no good release before")


def test_a_release_that_was_bad_is_passed_over(project: Project) -> None:
    """Somebody has rolled back from it, and deployed another since."""
    _, second, third = releases(project, 3)
    project.fab("rollback")
    (fourth,) = releases(project, 1)
    (listed,) = project.fab("releases", "--json").json["hosts"]
    assert {r["id"]: r["left"] for r in listed["releases"]}[third]
    assert rolled_back(project) == second
    assert rolled_back(project, "--to", fourth) == fourth
    assert rolled_back(project, "--to", third) == third, "a person may say so"


# -- what is asked for at the beginning ------------------------------------------------------------------


def test_two_names_of_one_place_are_refused(project: Project) -> None:
    project.deployed()
    here, there = project.address(), project.address().replace("127.0.0.1", "localhost")
    known = project.server.known_hosts
    known.write_text(known.read_text() + known.read_text().replace("127.0.0.1", "localhost"))
    with untouched(project):
        done = project.fab("deploy", "--json", hosts=f"{here},{there}", code=1)
    done.says("127.0.0.1", "localhost", "are the same place")
    assert project.is_tidy(), "the lock was given back"


def test_a_host_that_can_not_ask_for_its_health_is_refused_before_the_switch(project: Project) -> None:
    project.deployed()
    project.configure(health={"url": "http://127.0.0.1:9/healthz", "timeout": 30})
    project.write({"index.html": "two\n"})
    with tools(without=("curl", "wget")) as folder, Sshd(extra=f"SetEnv PATH={folder}") as server:
        done = fab_on(project, server, "deploy", "--json", code=1)
        assert done.host["failed_in"] == "check" and "curl" in done.host["error"]["what"]
        fab_on(project, server, "deploy", "--skip-health")


SPY = '#!/bin/sh\nprintf \'%s\\n\' "$@" >> {seen}\nexec /usr/bin/{name} "$@"\n'


@pytest.mark.promise("other-accounts")
@pytest.mark.parametrize("name", ["curl", "wget"])
def test_the_address_of_the_health_check_is_in_no_argument_list(project: Project, name: str) -> None:
    """It may hold a password or a token; every account of a host sees the arguments of all programs."""
    project.deployed()
    seen, other = project.deploy_to / "seen", {"curl": "wget", "wget": "curl"}[name]
    spy = SPY.format(seen=seen, name=name)
    with (
        Service(project.deploy_to) as service,
        tools(without=(other,), fake={name: spy}) as folder,
        Sshd(extra=f"SetEnv PATH={folder}") as server,
    ):
        url = str(service.health["url"]).replace("http://", "http://joe:s3cret@") + "?token=hunter2"
        project.configure(hooks={"after_switch": [service.hook]}, health={**service.health, "url": url})
        project.write({"index.html": "two\n"})
        fab_on(project, server, "deploy", "--json")
    assert seen.read_text() and "s3cret" not in seen.read_text() and "hunter2" not in seen.read_text()
