"""What earlier deployments have left; tools, clocks."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from fabfile.on_host.lock import LEASE
from tests.lab.faults.declared import SFTP_SERVER, fault, faults, sshd
from tests.support.examined import ExaminedHost
from tests.support.programs import tools, wrapper
from tests.support.sshd import Sshd


@fault("current-not-link")
def a_directory_called_current() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "current").mkdir()
        yield ExaminedHost(server, deploy_to=site)


@fault("layout-mixed")
def somebody_elses_deployments() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        for name in ("repo", "releases/20240101120000", "shared"):
            (site / name).mkdir(parents=True)
            server.give(site / name)
        server.give(site / "releases")
        (site / "revisions.log").write_text("Branch main deployed as release 20240101120000 by joe\n")
        (site / "current").symlink_to("releases/20240101120000")
        yield ExaminedHost(server, deploy_to=site)


@fault("lock-stale")
def a_lock_that_nobody_holds() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        lock = site / ".switchover/lock/3"
        lock.mkdir(parents=True)
        owner = {"user": "joe", "machine": "laptop", "pid": 1, "time": "2026-01-01T00:00:00+00:00",
                 "command": "fab deploy", "token": "0" * 24, "place": ""}  # fmt: skip
        (lock / "owner").write_text(json.dumps(owner))
        long_ago = time.time() - 10 * LEASE
        os.utime(lock / "owner", (long_ago, long_ago))
        for path in (site / ".switchover", site / ".switchover/lock", lock, lock / "owner"):
            server.give(path)
        yield ExaminedHost(server, deploy_to=site)


@fault("release-broken", mends=False)  # it takes a deployment
def a_live_release_that_is_gone() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "releases").mkdir()
        server.give(site / "releases")
        (site / "current").symlink_to("releases/20260101120000")
        yield ExaminedHost(server, deploy_to=site)


# Ends everything that was started in this session, as logind does with KillUserProcesses=yes.
REAPER = """#!/bin/bash
sh -c "$SSH_ORIGINAL_COMMAND"; status=$?
for p in /proc/[0-9]*; do
  pid=${p#/proc/}
  case $(tr '\\0' '\\n' < $p/environ 2>/dev/null) in
    *"SSH_CONNECTION=$SSH_CONNECTION"*)
      case $(cat $p/comm) in run|sftp-server) ;; *) kill -9 $pid ;; esac ;;
  esac
done 2>/dev/null
exit $status
"""


@fault("jobs-killed-at-logout", mends=False)  # there is no logind here to be told
def a_host_that_ends_what_sessions_leave() -> Iterator[ExaminedHost]:
    with wrapper(REAPER) as program:
        yield from sshd(f"ForceCommand {program}", sftp=SFTP_SERVER)


@fault("tool-missing", mends=False)  # installing it again would not put it on this PATH
def a_host_without_tar() -> Iterator[ExaminedHost]:
    with tools(without=("tar",)) as folder, Sshd(extra=f"SetEnv PATH={folder}") as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), transfer="stream")


@fault("clock-skew", mends=False)  # setting this machine's clock is not for a test
def a_clock_that_is_slow() -> Iterator[ExaminedHost]:
    slow = '#!/bin/sh\nexec /bin/date -d "10 minutes ago" "$@"\n'
    with tools(fake={"date": slow}) as folder:
        yield from sshd(f"SetEnv PATH={folder}")


def _site(*names: str) -> Iterator[ExaminedHost]:
    """A site with these folders (they end in /) and files."""
    with Sshd() as server:
        site = server.new_dir()
        for name in names:
            path = site / name
            path.parent.mkdir(exist_ok=True)
            path.mkdir() if name.endswith("/") else path.touch()
            for made in (path.parent, path):
                server.give(made)
        yield ExaminedHost(server, deploy_to=site)


faults("current-not-link", {"a file called current": lambda: _site("current")})
faults(
    "layout-mixed",
    {
        "what Deployer leaves": lambda: _site(".dep/", "releases/41/"),
        "releases that nobody has recorded": lambda: _site("releases/20230101120000/"),
    },
)


@fault("release-broken", mends=False)
def a_current_that_leads_to_itself() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "current").symlink_to("current")
        yield ExaminedHost(server, deploy_to=site)


@fault("clock-skew", mends=False)
def a_clock_that_is_fast() -> Iterator[ExaminedHost]:
    fast = '#!/bin/sh\nexec /bin/date -d "2 days" "$@"\n'
    with tools(fake={"date": fast}) as folder:
        yield from sshd(f"SetEnv PATH={folder}")


def _without(name: str) -> Iterator[ExaminedHost]:
    with tools(without=(name,)) as folder:
        yield from sshd(f"SetEnv PATH={folder}")


faults(
    "tool-missing",
    {
        "a host without sha256sum": lambda: _without("sha256sum"),
        "a host without setsid": lambda: _without("setsid"),
    },
    mends=False,
)


@fault("serves-old", mends=False)  # which service it is, only its owner knows
def a_program_that_runs_in_an_older_release() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server, deploy_to=server.new_dir())
        place.deploy()
        older = (Path(place.settings["deploy_to"]) / "current").resolve()
        place.deploy()
        who = pwd.getpwnam(server.user)
        running = subprocess.Popen(
            ["sleep", "300"], cwd=older, user=who.pw_uid, group=who.pw_gid, extra_groups=[]
        )
        try:
            yield place
        finally:
            running.kill()
            running.wait(5)
