"""What goes wrong beside the deployment: it is done all the same, and a person is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fabfile.on_host import state
from fabfile.remote.files import Space
from tests.support.listening import Listener, explained
from tests.support.project import Project, ProjectOn, untouched
from tests.support.web import HealthPage

pytestmark = pytest.mark.timeout(90)


def record(project: Project, release: str) -> Path:
    return project.deploy_to / f".switchover/releases/{release}/record.json"


def change(project: Project, release: str, **keys: object) -> None:
    """Write something else into a release's record."""
    path = record(project, release)
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def told(listener: Listener, *words: str) -> bool:
    """Whether one note has all these words."""
    return any(all(word in note for word in words) for note in listener.notes)


# -- records ---------------------------------------------------------------------------------------------


@pytest.mark.promise("damage")
def test_a_damaged_record_is_told_and_left_alone(project: Project) -> None:
    first = project.deployed()
    record(project, first).write_text("{half a rec")
    project.write({"index.html": "two\n"})
    listener = Listener()
    second = project.deployed(listener=listener)
    assert told(listener, first), listener.notes
    assert record(project, first).read_text() == "{half a rec"
    assert first in project.released and project.live == second


def test_a_release_that_never_proved_itself_does_not_become_good(project: Project) -> None:
    """It is live, but only `ready`: its deployment was cut between the switch and the health check. The next
    one must not offer it for a rollback.
    """
    first = project.deployed()
    second = project.deployed()
    change(project, second, state="ready")
    third = project.deployed()
    assert project.states() == {first: "good", second: "bad", third: "live"}
    project.fab("rollback")
    assert project.live == first


# -- what can't be tidied --------------------------------------------------------------------------------


def test_a_release_that_can_not_be_removed_is_told(project_on: ProjectOn) -> None:
    """The host's rm refuses what is named in a file beside it: ID, not ID-2 of the same second."""
    named = "$(cat $here/keep 2>/dev/null || echo /nothing)"
    refuse = f'case "$* " in *"{named} "*) echo "rm: no" >&2; exit 1 ;; esac'
    stubborn = project_on(programs={"rm": refuse})
    stubborn.configure(keep_releases=1, copy="full")
    first = stubborn.deployed()
    stubborn.deployed()
    (stubborn.server.programs / "keep").write_text(first)
    listener = Listener()
    third = stubborn.deployed(listener=listener)
    assert told(listener, first, "could not be removed"), listener.notes
    assert stubborn.live == third and stubborn.states()[first] == "failed"
    assert not stubborn.locked()


def test_a_tidying_that_fails_after_the_switch_is_told(project: Project) -> None:
    """The new release is live and healthy, but that can't be written down: done, with a warning."""
    project.deployed()
    lock = "chmod 555 $SWITCHOVER_DEPLOY_TO/.switchover/releases/$SWITCHOVER_RELEASE"
    project.configure(hooks={"after_switch": [lock]})
    project.write({"index.html": "two\n"})
    if os.geteuid() == 0:
        assert project.server.user != "root", "root may write there all the same"
    listener = Listener()
    outcome = project.deploy(listener=listener)
    assert outcome.exit_code == 0, outcome.error
    assert told(listener, "cleaning up failed"), listener.notes
    assert (project.current / "index.html").read_text() == "two\n"


def test_who_has_lost_the_lock_cleans_nothing_up(project: Project) -> None:
    """Somebody has broken our lock: not even our own leavings are ours to remove, nor our hooks to run."""
    project.deployed()
    project.configure(hooks={"before_switch": ["true"], "after_failure": ["touch $SWITCHOVER_DEPLOY_TO/ran"]})
    locks = project.deploy_to / ".switchover/lock"

    def rob() -> None:
        newest = max(locks.iterdir(), key=lambda path: int(path.name))
        project.server.give(write(newest / "released"))

    listener = Listener(before_switch=rob)
    with untouched(project):
        outcome = project.deploy(listener=listener)
    explained(outcome.error, "was broken while this command ran")
    assert not (project.deploy_to / "ran").exists()
    assert "after_failure" not in listener.begun and not told(listener, "no longer ours"), listener.notes


def write(path: Path) -> Path:
    path.write_text("broken\n")
    return path


def test_a_release_that_somebody_made_live_is_not_removed(project: Project) -> None:
    """The deployment has failed, and meanwhile somebody points `current` at it by hand."""
    project.deployed()
    by_hand = "ln -sfn releases/$SWITCHOVER_RELEASE $SWITCHOVER_DEPLOY_TO/current"
    project.configure(hooks={"before_switch": ["exit 1"], "after_failure": [by_hand]})
    outcome = project.deploy()
    assert outcome.exit_code == 1
    assert project.live == outcome.hosts[0].release
    assert (project.current / "index.html").read_text() == "one\n"


# -- room and links --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Space(1 << 40, 3), "not enough inodes"),
        (Space(1 << 20, 10**9), "not enough room"),
        (Space(1 << 20, None), "not enough room"),
    ],
)
def test_room_and_inodes_are_looked_at_beforehand(
    project: Project, monkeypatch: pytest.MonkeyPatch, space: Space, words: str
) -> None:
    project.deployed()
    project.write({"index.html": "two\n"})
    monkeypatch.setattr(state, "parse_space", lambda text: space)
    listener = Listener()
    with untouched(project):
        outcome = project.deploy(listener=listener)
    assert outcome.exit_code == 1
    explained(outcome.error, words)
    assert "upload" not in listener.begun and project.is_tidy()


def test_a_file_system_that_counts_no_inodes_has_enough(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """btrfs and others: df -i says 0 of 0."""
    monkeypatch.setattr(state, "parse_space", lambda text: Space(1 << 40, None))
    project.deployed()


def test_shared_links_are_looked_at_before_the_switch(project_on: ProjectOn) -> None:
    """The host's ln makes other links than it is told."""
    ln = 'case "$*" in *shared/storage*) shift 2; exec $real -s /etc "$1" ;; esac'
    crooked = project_on(programs={"ln": ln})
    crooked.deployed()
    crooked.configure(shared={"dirs": ["storage"]})
    with untouched(crooked):
        outcome = crooked.deploy()
    assert outcome.exit_code == 1
    explained(outcome.error, "storage", "/etc")


# -- rollback --------------------------------------------------------------------------------------------


def test_a_rollback_to_a_release_with_missing_files_is_refused(project: Project) -> None:
    first = project.deployed()
    project.write({"index.html": "two\n"})
    project.deployed()
    (project.deploy_to / "releases" / first / "css/site.css").unlink()
    with untouched(project):
        done = project.fab("rollback", code=1)
    done.says(first, "is not whole any more", "css/site.css", "--to ID")
    assert project.is_tidy()


def test_a_rollback_checks_the_health_of_what_it_goes_back_to(project: Project) -> None:
    first = project.deployed()
    second = project.deployed()
    with HealthPage(503) as site:
        project.configure(health={"url": site.url, "timeout": 1})
        project.fab("rollback", code=3).says("is not healthy")
        assert site.asked
    assert project.live == second and project.states() == {first: "good", second: "live"}
    with HealthPage(200) as site:
        project.configure(health={"url": site.url, "timeout": 1})
        project.fab("rollback")
        assert site.asked
    assert project.live == first
