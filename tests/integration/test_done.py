"""What is said to be done is done: failures are told in the step they happened in, by their true cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.release.lock import LOST
from tests.integration.cli import Project, Service, untouched
from tests.lab.sshd import Sshd


@pytest.fixture
def project(tmp_path: Path, sshd: Sshd, host_dir: Path) -> Project:
    return Project(tmp_path / "project", sshd, host_dir)


# -- true causes -----------------------------------------------------------------------------------------


@pytest.mark.promise("hook-words")
@pytest.mark.parametrize("status", [75, 1, 255])
def test_a_hook_that_says_our_own_words_has_lost_no_lock(project: Project, status: int) -> None:
    project.deployed()
    project.configure(hooks={"before_switch": [f"echo '{LOST}' >&2; exit {status}"]})
    with untouched(project):
        done = project.fab("deploy", "--json", code=1)
    assert "before_switch hook" in done.json["error"]["what"]
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
