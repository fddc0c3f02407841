"""A host that says more than anybody can hold: the client stays small, and ends soon, with words of ours.

Each in a process of its own, whose memory is read from /proc, beside a real server whose programs flood.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import wrapper
from tests.support.site import Site, give_all, ssh_rules
from tests.support.sockets import listening
from tests.support.sshd import Sshd
from tests.support.trees import write

pytestmark = [pytest.mark.timeout(120), pytest.mark.promise("floods")]
REPOSITORY = Path(__file__).parents[2]
MEMORY = 256 << 10  # KiB
SOON = 30.0  # seconds
SSH = {"host_keys": "off", "command_timeout": 60, "reconnect": {"attempts": 2, "window": 8}}

# The program that runs in the process: one command, what became of it, its seconds and its memory.
CLIENT = """
import json, sys, time
from fabfile import fleet
from fabfile.fleet import Target
from fabfile.settings import load

asked = json.loads(sys.argv[1])
settings = load(None, overrides=asked["settings"])
hosts = [Target(asked["host"], asked["identity"])]
lines = []
def listen(event):
    lines.append(len(getattr(event, "line", "")))
begun = time.monotonic()
if asked["command"] == "verify":
    outcome = fleet.cache_sync(settings, hosts, verify=True, listener=listen)
else:
    outcome = fleet.deploy(settings, hosts, listener=listen)
error = outcome.error
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]
print(json.dumps({
    "code": outcome.exit_code, "what": error.what if error else "", "why": error.why if error else "",
    "seconds": time.monotonic() - begun, "memory": int(peak), "lines": sum(lines),
}))
"""


def client(
    site: Site, source: Path, *, command: str = "deploy", port: int = 0, **keys: object
) -> dict[str, object]:
    """Run one command of a client that may take no more than so much time and memory."""
    server = site.server
    settings = {
        "application": "shop", "deploy_to": str(site.deploy_to), "source": {"path": str(source)},
        "exclude": [], "ssh": {**ssh_rules(server), **SSH}, **keys,
    }  # fmt: skip
    asked = {
        "settings": settings, "command": command, "identity": str(server.identity),
        "host": f"{server.user}@{server.host}:{port or server.port}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(asked)], cwd=REPOSITORY, capture_output=True, text=True,
        timeout=100, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    assert int(str(found["memory"])) < MEMORY, found
    assert not str(found["what"]).startswith("Switchover itself"), found
    return found


# What runs in the place of each command: the command itself, and a flood beside it.
FLOODS = {
    "stdout for ever": "yes 'more and more'",
    "stdout for ever, one line": "tr '\\0' x < /dev/zero",
    "stderr for ever, one line": "tr '\\0' x < /dev/zero >&2",
    "noise before all": "BEFORE yes noise",
}


@contextmanager
def flooding(flood: str) -> Iterator[Sshd]:
    """A server whose every command, but SFTP, floods."""
    before = flood.startswith("BEFORE ")
    flood = flood.removeprefix("BEFORE ")
    sftp = "case $SSH_ORIGINAL_COMMAND in *sftp*) exec /usr/lib/openssh/sftp-server ;; esac\n"
    ours = '/bin/sh -c "$SSH_ORIGINAL_COMMAND"'
    with (
        wrapper(f"#!/bin/sh\n{sftp}{flood if before else ours}\n{ours if before else flood}\n") as run,
        Sshd(extra=f"ForceCommand {run}", sftp=None) as server,
    ):
        yield server


@pytest.mark.parametrize("name", FLOODS)
def test_output_without_end(sshd_installed: None, tmp_path: Path, name: str) -> None:
    with flooding(FLOODS[name]) as server:
        found = client(Site(server, server.new_dir() / "site", {}), write(tmp_path / "v", {"a": "1"}))
    assert found["code"] == 1 and float(str(found["seconds"])) < SOON, found
    assert "too much" in str(found["what"]), found


@pytest.mark.parametrize("greeting", ["no newline", "lines"])
def test_a_greeting_without_end(sshd: Sshd, host_dir: Path, tmp_path: Path, greeting: str) -> None:
    piece = b"x" * 65536 if greeting == "no newline" else b"hello\r\n" * 8192

    def greet(connection: socket.socket) -> None:
        with connection:
            while True:
                connection.sendall(piece)

    with listening(greet) as port:
        found = client(Site(sshd, host_dir / "site", {}), write(tmp_path / "v", {"a": "1"}), port=port)
    assert found["code"] == 1 and float(str(found["seconds"])) < SOON, found


def _endless_listing(site: Site, tmp_path: Path) -> Mapping[str, str]:
    """A cache of so many paths that their names alone fill the memory."""
    for folder in range(40):
        deep = site.cache / f"{'d' * 200}{folder}" / ("e" * 200)
        deep.mkdir(parents=True)
        for number in range(680):
            (deep / f"{'n' * 200}{number}").touch()
    give_all(site.server, site.cache)
    return {"command": "verify"}


def _endless_manifest(site: Site, tmp_path: Path) -> Mapping[str, str]:
    with (site.deploy_to / ".switchover/cache/manifest").open("wb") as file:
        file.truncate(3 << 30)
    return {}


def _endless_records(site: Site, tmp_path: Path) -> Mapping[str, str]:
    for number in range(1000):
        folder = site.deploy_to / f".switchover/releases/20200101{number:06d}"
        folder.mkdir()
        (folder / "record.json").write_text("x" * 60_000)
    give_all(site.server, site.deploy_to / ".switchover")
    return {}


PLANTED = {"listing": _endless_listing, "manifest": _endless_manifest, "records": _endless_records}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_without_end(sshd: Sshd, host_dir: Path, tmp_path: Path, name: str) -> None:
    site, source = Site(sshd, host_dir / "site", {}), write(tmp_path / "v", {"a": "1"})
    site.deploy(source)
    asked = PLANTED[name](site, tmp_path)
    write(source, {"a": "2"})
    found = client(site, source, **asked)
    assert float(str(found["seconds"])) < SOON, found
    if name != "manifest":
        assert found["code"] == 1, found


def test_a_hook_may_say_much(sshd: Sshd, host_dir: Path, tmp_path: Path) -> None:
    """8 MB, and a line of 64 MB: all of it passes, little of it stays."""
    much = "yes 'a line of a hook' | head -c 8388608; head -c 67108864 /dev/zero | tr '\\0' x"
    site, source = Site(sshd, host_dir / "site", {}), write(tmp_path / "v", {"a": "1"})
    found = client(site, source, hooks={"before_switch": [much]})
    assert found["code"] == 0 and int(str(found["lines"])) > 7_500_000, found
