"""Every command and flag of the contract, typed as a person would, against a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.fab import ERROR_KEYS, HOST_KEYS, RELEASE_ID
from tests.support.project import Project, snapshot, untouched
from tests.support.skipping import unavailable
from tests.support.waiting import Barrier, eventually
from tests.support.web import HealthPage

pytestmark = pytest.mark.timeout(120)


def show(path: Path) -> str:
    return path.read_text()


# -- without a configuration ---------------------------------------------------------------------------


def test_the_list_of_tasks_needs_no_configuration(project: Project) -> None:
    done = project.fab("--list", cwd=project.folder / "home", hosts="")
    for task in ("deploy", "rollback", "cache-sync", "releases", "unlock", "demo"):
        assert f"  {task} " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_what_was_compiled_is_kept_unless_the_user_says_no(project: Project, wanted: bool) -> None:
    """Invoke would have every run compile all of ours, and all they import, anew."""
    kept = project.folder / "bytecode"
    project.fab(
        "--list", hosts="", PYTHONPYCACHEPREFIX=str(kept), PYTHONDONTWRITEBYTECODE="" if wanted else "1"
    )
    assert bool(list(kept.rglob("cli/deploy.*.pyc"))) == wanted


def test_deploying_a_folder_without_a_configuration(project: Project) -> None:
    home = project.folder / "home"
    done = project.fab(
        "deploy", "--source", "../build", "--deploy-to", str(project.deploy_to), "--json", cwd=home
    )
    assert done.host["release"] == project.live
    assert show(project.current / "index.html") == "one\n"
    # The host's key was remembered where ssh looks for it.
    assert f"[127.0.0.1]:{project.server.port}" in show(home / ".ssh/known_hosts")


@pytest.mark.parametrize("command", ["releases", "rollback"])
def test_other_commands_take_deploy_to_as_a_flag(project: Project, command: str) -> None:
    project.deployed()
    first = project.live
    project.deployed()
    done = project.fab(command, "--deploy-to", str(project.deploy_to), "--json", cwd=project.folder / "home")
    assert done.json["ok"] is True
    assert project.live == first or command != "rollback"


# -- deploy --------------------------------------------------------------------------------------------


def test_the_first_deployment_and_what_it_leaves_on_the_host(project: Project) -> None:
    project.write({"storage/app/seed.txt": "seeded\n", ".env": "KEY=1\n", "bin/run": "#!/bin/sh\n"})
    (project.build / "bin/run").chmod(0o755)
    (project.build / "latest").symlink_to("css/site.css")
    project.configure(
        application="shop", shared={"dirs": ["storage", "public/uploads"], "files": [".env"]}, hosts=[]
    )
    done = project.fab("deploy")

    live = project.live
    assert live is not None and RELEASE_ID.fullmatch(live)
    assert str(project.current.readlink()) == f"releases/{live}"
    assert {path.name for path in project.deploy_to.iterdir()} == {
        "current", "releases", "shared", "cache", ".switchover",
    }  # fmt: skip
    release = project.deploy_to / "releases" / live
    for path in ("index.html", "css/site.css", "about.html", "bin/run"):
        assert show(release / path) == show(project.build / path)
    assert (release / "bin/run").stat().st_mode & 0o777 == 0o755
    assert str((release / "latest").readlink()) == "css/site.css"
    assert show(release / "REVISION").strip()
    # Shared paths: relative links, seeded once from the source.
    assert str((release / "storage").readlink()) == "../../shared/storage"
    assert str((release / "public/uploads").readlink()) == "../../../shared/public/uploads"
    assert str((release / ".env").readlink()) == "../../shared/.env"
    assert show(project.deploy_to / "shared/storage/app/seed.txt") == "seeded\n"
    assert show(project.deploy_to / "shared/.env") == "KEY=1\n"
    assert (project.deploy_to / "shared/public/uploads").is_dir()
    assert project.is_tidy() and project.states() == {live: "live"}

    # What a person sees: each step on a line, and a summary; nothing that looks like trouble.
    for step in ("connect", "lock", "check", "upload", "copy", "link", "verify", "switch", "unlock"):
        assert f"✓ {step} " in done.stdout
    done.says(
        "shell and SFTP agree", f"nothing → {live}", "transfer: stream", f"✓ {live} is live on 127.0.0.1 ("
    )
    assert done.stderr == ""

    # The second time only what changed travels, and what vanished from the source is gone.
    (project.deploy_to / "shared/.env").write_text("KEY=2\n")
    project.write({"index.html": "two\n", "about.html": None})
    second = project.fab("deploy", "--json").host
    assert (second["files_uploaded"], second["files_deleted"], second["bytes_uploaded"]) == (1, 1, 4)
    assert second["previous"] == live and second["release"] == project.live
    assert show(project.current / "index.html") == "two\n"
    assert not (project.current / "about.html").exists()
    assert show(project.current / ".env") == "KEY=2\n"
    assert project.states() == {live: "good", project.live: "live"}


def test_a_second_that_is_taken_gets_a_number(project: Project) -> None:
    theirs = project.deploy_to / "releases" / "20991231235959"
    theirs.mkdir(parents=True)
    project.server.give(theirs.parent)
    (theirs / "note").write_text("not Switchover's\n")
    first = project.fab("deploy", "--json").host["release"]
    second = project.fab("deploy", "--json").host["release"]
    assert (first, second) == ("20991231235959-2", "20991231235959-3")
    assert project.live == second
    # A directory that isn't ours is left alone, and nobody rolls back to it.
    assert show(theirs / "note") == "not Switchover's\n"
    assert project.fab("rollback", "--json").host["release"] == first


def test_plan_lists_and_changes_nothing(project: Project) -> None:
    project.deployed()
    project.write({"index.html": "two\n", "about.html": None, "new.html": "new\n"})
    before = snapshot(project.deploy_to)
    done = project.fab("deploy", "--plan")
    assert snapshot(project.deploy_to) == before
    done.says("+ new.html", "~ index.html", "- about.html", "1 to add, 1 to change, 1 to delete, 8 bytes")
    (entry,) = project.fab("deploy", "--plan", "--json", "--strategy", "previous").json["hosts"]
    assert snapshot(project.deploy_to) == before
    assert entry["plan"] == {
        "added": ["new.html"], "changed": ["index.html"], "deleted": ["about.html"], "bytes": 8,
    }  # fmt: skip


def test_plan_of_a_first_deployment_makes_not_even_deploy_to(project: Project) -> None:
    project.configure(deploy_to=str(project.deploy_to / "deeper/site"))
    done = project.fab("deploy", "--plan", "--json")
    assert sorted(done.host["plan"]["added"]) == ["about.html", "css", "css/site.css", "index.html"]
    assert list(project.deploy_to.iterdir()) == []


def test_strategy_previous_keeps_hand_edits_and_cache_does_not(project: Project) -> None:
    project.deployed()
    (project.current / "by-hand.txt").write_text("edited\n")
    kept = project.fab("deploy", "--strategy", "previous", "--json").host
    assert kept["strategy"] == "previous"
    assert show(project.current / "by-hand.txt") == "edited\n"
    clean = project.fab("deploy", "--strategy", "cache", "--json").host
    assert clean["strategy"] == "cache"
    assert not (project.current / "by-hand.txt").exists()


@pytest.mark.parametrize("transfer", ["stream", "rsync", "sftp"])
def test_each_transfer(project: Project, transfer: str) -> None:
    if transfer == "rsync" and not (shutil.which("rsync") and shutil.which("ssh")):
        unavailable("rsync or ssh is not installed")
    project.write({"odd $(name) 'x'\n.txt": "odd\n"})
    assert project.fab("deploy", "--transfer", transfer, "--json").host["transfer"] == transfer
    assert show(project.current / "odd $(name) 'x'\n.txt") == "odd\n"
    assert show(project.current / "css/site.css") == "body {}\n"


def test_each_copy_mode(project: Project) -> None:
    linked = project.fab("deploy", "--copy", "hardlink", "--json").host
    assert linked["copy"] == "hardlink"
    cached = project.deploy_to / "cache/index.html"
    assert (project.current / "index.html").samefile(cached)
    assert project.fab("deploy", "--copy", "full", "--json").host["copy"] == "full"
    assert not (project.current / "index.html").samefile(cached)


def test_copying_by_reflink(project: Project) -> None:
    project.deployed()
    if reflinks(project.deploy_to):
        assert project.fab("deploy", "--copy", "reflink", "--json").host["copy"] == "reflink"
        return
    with untouched(project):  # most file systems can't
        done = project.fab("deploy", "--copy", "reflink", code=1)
        done.says("copy: reflink does not work", "Set copy: auto")
    assert project.is_tidy()


def reflinks(folder: Path) -> bool:
    probe = folder / "cache/index.html"
    done = subprocess.run(
        ["cp", "--reflink=always", probe, folder / "probe"], capture_output=True, timeout=10
    )
    (folder / "probe").unlink(missing_ok=True)
    return done.returncode == 0


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_revision_of_a_repository(project: Project) -> None:
    git(project.build, "init", "--quiet")
    git(project.build, "add", "-A")
    git(project.build, "commit", "--quiet", "-m", "one")
    git(project.build, "tag", "v1")
    first = git(project.build, "rev-parse", "HEAD")
    project.write({"index.html": "two\n"})
    git(project.build, "commit", "--quiet", "-am", "two")
    project.write({"index.html": "not committed\n"})
    project.configure(source={"git": "./build"})
    project.fab("deploy")
    assert show(project.current / "index.html") == "two\n"
    project.fab("deploy", "--ref", "v1")
    assert show(project.current / "index.html") == "one\n"
    assert show(project.current / "REVISION") == first + "\n"
    assert not (project.current / ".git").exists()
    with untouched(project):
        project.fab("deploy", "--ref", "v9", code=1).says("git can't give the source", "v9")


def test_from_scratch_rules_out_what_the_cache_has_become(project: Project) -> None:
    project.deployed()
    cached = project.deploy_to / "cache/index.html"
    times = cached.stat()
    cached.write_text("bad\n")  # as long as before, and as old
    os.utime(cached, ns=(times.st_atime_ns, times.st_mtime_ns))
    (project.deploy_to / "cache/extra.html").write_text("extra\n")
    done = project.fab("deploy", "--from-scratch", "--json")
    assert done.host["files_uploaded"] == 3
    assert show(project.current / "index.html") == "one\n"
    assert not (project.current / "extra.html").exists()


def test_hooks_and_health_in_a_deployment_that_works(project: Project) -> None:
    with HealthPage(503, 503, 200) as site:
        project.configure(
            application="shop",
            hooks={
                "local_build": ["echo built > build/built.txt; echo built here"],
                "before_switch": ["pwd; echo before $SWITCHOVER_RELEASE; test ! -e ../../current"],
                "after_switch": [
                    'test "$SWITCHOVER_DEPLOY_TO/current" -ef .',
                    "echo after $SWITCHOVER_APPLICATION; cat built.txt",
                ],
                "after_failure": ["echo never"],
            },
            health={"url": site.url, "timeout": 20},
        )
        done = project.fab("deploy")
    assert site.asked == 3  # two answers that are not healthy yet, and one that is
    live = project.live
    done.says(
        "local │ built here",
        f"│ {project.deploy_to}/releases/{live}",
        f"before {live}",
        "after shop",
        "│ built",
    )
    assert "never" not in done.stdout + done.stderr


def test_skip_health(project: Project) -> None:
    with HealthPage(500) as site:
        project.configure(health={"url": site.url, "timeout": 1})
        project.fab("deploy", "--skip-health")
        assert project.live and site.asked == 0


def test_old_releases_go(project: Project) -> None:
    project.configure(keep_releases=2)
    releases = [project.deployed() for _ in range(3)]
    done = project.fab("deploy", "--json")
    assert project.released == sorted([releases[-1], done.host["release"]])


# -- where the configuration comes from -----------------------------------------------------------------


def test_which_configuration_is_read(project: Project) -> None:
    def variant(name: str) -> Path:
        folder = project.folder / name
        shutil.copytree(project.build, folder / "build")
        (folder / "build/index.html").write_text(f"from {name}\n")
        shutil.copy(project.folder / "config.yaml", folder / f"{name}.yaml")
        return folder / f"{name}.yaml"

    by_variable, by_flag = variant("variable"), variant("flag")
    project.fab("deploy", SWITCHOVER_CONFIG=str(by_variable))
    assert show(project.current / "index.html") == "from variable\n"  # it wins over ./config.yaml
    project.fab("deploy", "--config", "flag/flag.yaml", SWITCHOVER_CONFIG=str(by_variable))
    assert show(project.current / "index.html") == "from flag\n"
    project.fab("deploy", "--config", str(by_flag), "--env", "prod", code=2).says("prod", "environment")


def test_an_environment_is_laid_over_the_rest(project: Project) -> None:
    staging = project.server.new_dir("staging-")
    project.configure(environments={"staging": {"deploy_to": str(staging), "strategy": "previous"}})
    done = project.fab("deploy", "--env", "staging", "--json")
    assert done.host["strategy"] == "previous"
    assert (staging / "current/index.html").exists() and project.live is None


def test_hosts_of_the_configuration_and_of_the_command_line(project: Project) -> None:
    there = {
        "host": "127.0.0.1", "port": project.server.port, "user": project.server.user,
        "identity": str(project.server.identity),
    }  # fmt: skip
    project.configure(hosts=[there])
    assert project.fab("deploy", "--json", hosts="").host["host"] == "127.0.0.1"
    first = project.live
    assert first is not None
    # -H wins: the host that the configuration names is not even tried.
    project.configure(hosts=[{**there, "host": "192.0.2.1"}])
    assert project.fab("deploy", "--json").host["host"] == "127.0.0.1"
    assert project.live != first


# -- rollback ------------------------------------------------------------------------------------------


def test_rollback_goes_back_step_by_step_and_forward_by_name(project: Project) -> None:
    ids = []
    for text in ("one\n", "two\n", "three\n"):
        project.write({"index.html": text})
        ids.append(project.deployed())
    before = snapshot(project.deploy_to)
    assert project.fab("rollback", "--plan").stdout.splitlines()[-1] == (
        f"127.0.0.1: {ids[2]} → {ids[1]}; nothing was changed"
    )
    assert snapshot(project.deploy_to) == before
    back = project.fab("rollback", "--json").host
    assert (back["release"], back["previous"], project.live) == (ids[1], ids[2], ids[1])
    assert show(project.current / "index.html") == "two\n"
    # Not back to the one that was just left, but further down.
    project.fab("rollback")
    assert show(project.current / "index.html") == "one\n"
    with untouched(project):
        done = project.fab("rollback", code=1)
        done.says("There is no good release before the live one", ids[2], "--to")
    project.fab("rollback", "--to", ids[2])
    assert show(project.current / "index.html") == "three\n"
    assert project.states()[ids[2]] == "live" and project.is_tidy()


@pytest.mark.parametrize("wanted", ["20200101000000", "../../etc", "the live one"])
def test_rollback_to_something_that_can_not_be(project: Project, wanted: str) -> None:
    first = project.deployed()
    project.deployed()
    wanted = str(project.live) if wanted == "the live one" else wanted
    with untouched(project):
        project.fab("rollback", "--to", wanted, code=1).says(wanted, first)
    assert project.is_tidy()


# -- cache-sync ----------------------------------------------------------------------------------------


def test_cache_sync_fills_the_cache_and_releases_nothing(project: Project) -> None:
    done = project.fab("cache-sync", "--json")
    assert done.host["files_uploaded"] == 3
    assert show(project.deploy_to / "cache/index.html") == "one\n"
    assert project.live is None and project.released == [] and project.is_tidy()
    # The deployment that follows has nothing left to upload.
    assert project.fab("deploy", "--json").host["files_uploaded"] == 0


def test_cache_sync_finds_drift_and_mends_it(project: Project) -> None:
    project.deployed()
    cache = project.deploy_to / "cache"
    (cache / "index.html").write_text("bad\n")
    (cache / "about.html").unlink()
    (cache / "extra.html").write_text("extra\n")
    drift = {"missing": ["about.html"], "altered": ["index.html"], "extra": ["extra.html"]}
    before = snapshot(project.deploy_to)
    with untouched(project):
        assert project.fab("cache-sync", "--verify", "--json").host["drift"] == drift
        assert snapshot(project.deploy_to) == before
        project.fab("cache-sync", "--verify").says("about.html", "index.html", "extra.html")
        done = project.fab("cache-sync", "--repair", "--json")
        assert done.host["drift"] == drift
    assert {path.name for path in cache.iterdir()} == {"index.html", "about.html", "css"}
    assert show(cache / "index.html") == "one\n" and show(cache / "about.html") == "about\n"
    project.fab("cache-sync", "--verify", "--repair", code=2).says("exclude each other")


# -- releases and unlock -------------------------------------------------------------------------------


def test_releases(project: Project) -> None:
    empty = project.fab("releases")
    empty.says("no releases")
    first = project.deployed()
    second = project.deployed()
    told = project.fab("releases").stdout
    rows = [line.split() for line in told.splitlines() if first in line or second in line]
    assert rows[0][:2] == [first, "good"] and rows[1][:2] == [second, "live"]
    found = project.fab("releases", "--json").json
    (host,) = found["hosts"]
    assert (host["host"], host["current"]) == ("127.0.0.1", second)
    assert [(r["id"], r["state"]) for r in host["releases"]] == [(first, "good"), (second, "live")]
    for release in host["releases"]:
        assert set(release) >= {"id", "state", "revision", "created", "deployed_by", "bytes"}
        assert release["bytes"] == len("one\nbody {}\nabout\n")


def test_unlock_shows_the_owner(project: Project) -> None:
    barrier = Barrier(project.server.new_dir("barrier-"))
    project.configure(hooks={"before_switch": [barrier.hook]})
    assert project.fab("unlock").stdout.splitlines()[-1] == "127.0.0.1: not locked"
    with project.start("deploy") as running:
        barrier.wait()
        done = project.fab("unlock", "--json").json["hosts"][0]
        assert done["held"] is True and done["broken"] is False
        assert (done["owner"]["pid"], done["owner"]["command"]) == (running.process.pid, "fab deploy")
        assert "token" not in done["owner"]
        project.fab("unlock").says(f"pid {running.process.pid}", "fab deploy")
        barrier.open()
        running.finish()  # showing it did not break it
    assert project.live


# -- JSON ----------------------------------------------------------------------------------------------


def check_head(found: dict[str, Any], code: int) -> None:
    assert (found["ok"], found["exit_code"]) == (code == 0, code)
    if code:
        assert set(found["error"]) == ERROR_KEYS and found["error"]["what"] and found["error"]["try"]
    else:
        assert found["error"] is None


@pytest.mark.parametrize("command", ["deploy", "rollback", "cache-sync"])
def test_the_json_document_has_every_key(project: Project, command: str) -> None:
    project.deployed()
    project.deployed()
    done = project.fab(command, "--json", *(["--verify"] if command == "cache-sync" else []))
    found = done.json
    assert set(found) == {"ok", "exit_code", "error", "hosts"}
    check_head(found, 0)
    assert set(done.host) - {"drift"} == HOST_KEYS
    assert ("drift" in done.host) == (command == "cache-sync")
    assert done.host["ok"] is True and done.host["error"] is None
    phases = done.host["phases"]
    assert "connect" in phases and all(isinstance(seconds, float | int) for seconds in phases.values())
    assert "✓ connect" in done.stderr  # the progress is there, but not on stdout


COMMANDS = ["deploy", "releases", "unlock"]  # one for each kind of document


@pytest.mark.parametrize("command", COMMANDS)
def test_the_json_document_is_there_when_a_host_fails_too(project: Project, command: str) -> None:
    done = project.fab(command, "--json", hosts=f"{project.server.user}@127.0.0.1:1", code=1)
    check_head(done.json, 1)
    assert set(done.host["error"]) == ERROR_KEYS
    assert done.host["host"] == "127.0.0.1"
    if command == "deploy":
        assert set(done.host) == HOST_KEYS and done.host["ok"] is False
    # A person who looks at stderr sees the same.
    assert done.json["error"]["what"] in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_json_document_is_there_when_nothing_was_contacted(project: Project, command: str) -> None:
    project.configure(strategi="cache")
    done = project.fab(command, "--json", code=2)
    check_head(done.json, 2)
    assert done.json["hosts"] == []
    assert "strategi" in done.json["error"]["why"]


def test_interrupted_it_gives_the_lock_back(project: Project) -> None:
    first = project.deployed()
    barrier = Barrier(project.server.new_dir("barrier-"))
    project.configure(hooks={"before_switch": [barrier.hook]})
    with untouched(project), project.start("deploy", "--json") as running:
        barrier.wait()
        running.process.terminate()
        done = running.finish(code=1)
        assert done.json["ok"] is False and "nterrupted" in done.json["error"]["what"]
        barrier.open()
    assert project.live == first
    eventually(project.is_tidy, "the lock is given back", 5)
    assert project.released == [first]
