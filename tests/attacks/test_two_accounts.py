"""Two accounts on one host: what the other one sees in the process list and in files, in every phase."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.accounts import account
from tests.support.project import Project
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd
from tests.support.waiting import Barrier, eventually
from tests.support.web import HealthPage

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise("other-accounts")]

SECRETS = {
    "a hook's text": "alphaVeiledWord",
    "what a hook says": "bravoVeiledWord",
    "its environment": "charlieVeiledWord",
    "the health URL": "deltaVeiledWord",
    "the git URL": "echoVeiledWord",
    "a local hook": "foxtrotVeiledWord",
}

# Looks at all processes as fast as it can, until its standard input ends; its words come there, too.
WATCHER = """
import json, os, select, sys
names = {word: name for name, word in json.loads(sys.stdin.readline()).items()}
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # the program itself may be root's alone to read
root, seen, looks = os.fsencode(sys.stdin.readline().strip()), set(), 0
def look(path, what):
    try:
        with open(path, "rb") as file:
            text = file.read(1 << 20)
    except OSError:
        return
    for word, name in names.items():
        if word.encode() in text:
            at = text.index(word.encode())
            seen.add(f"{name} in {what}: {text[max(0, at - 60):at + 40]!r}")
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    looks += 1
    for process in os.listdir("/proc"):
        if process.isdigit():
            look(f"/proc/{process}/cmdline", "an argument list")
            look(f"/proc/{process}/environ", "an environment")
    if looks % 20 == 0:
        for folder, _, files in os.walk(root):
            for name in files:
                look(os.path.join(folder, name), os.fsdecode(os.path.join(folder, name)))
print(json.dumps([looks, sorted(seen)]), flush=True)
"""


@contextmanager
def watched(root: Path, secrets: Mapping[str, str]) -> Iterator[list[str]]:
    """What another account has seen of these words in the end, of the processes and of all below `root`."""
    seen: list[str] = []
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert watcher.stdin and watcher.stdout
    try:
        watcher.stdin.write(f"{json.dumps(secrets)}\n{root}\n")
        watcher.stdin.flush()
        assert watcher.stdout.readline() == "ready\n"
        yield seen
        watcher.stdin.close()
        looks, found = json.loads(watcher.stdout.readline())
        assert looks > 20, "it has hardly looked"
        seen += found
    finally:
        watcher.kill()
        watcher.wait()


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of an account of its own."""
    if os.geteuid() != 0:
        unavailable("another account is needed")
    with account() as user:
        yield Path(pwd.getpwnam(user).pw_dir)


def _hook(word: str) -> str:
    """One whose text, output and environment are nobody else's business, and which takes its time."""
    said, kept = SECRETS["what a hook says"], SECRETS["its environment"]
    return f": {word}; export PASSWORD={kept}; printf '%s\\n' {said[:8]}''{said[8:]}; sleep 0.2"


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_another_account_sees_nothing(
    home: Path, sshd_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: str
) -> None:
    """Deployments, one that goes back, a rollback, and one whose client is killed while its job runs on."""
    monkeypatch.delenv("SHLVL", raising=False)  # else bash takes itself for a shell in a shell
    (home / ".bashrc").write_text(f"umask {umask}\n")
    hook = _hook(SECRETS["a hook's text"])
    with Sshd(user=home.name) as server, HealthPage(200, 200, 500) as page:
        project = Project(tmp_path / "project", server, server.new_dir() / "site")
        secret = page.url.replace("http://", f"http://user:{SECRETS['the health URL']}@")
        keys = {
            "hooks": {name: [hook] for name in ("before_switch", "after_switch", "after_failure")},
            "health": {"url": f"{secret}?token={SECRETS['the health URL']}", "timeout": 1},
            "confirm": {"within": 60},
        }
        keys["hooks"]["local_build"] = [_hook(SECRETS["a local hook"])]
        barrier = Barrier(server.new_dir("barrier-"))
        with watched(server.root, SECRETS) as seen:
            project.configure(**keys)
            for number, code in enumerate((0, 0, 3)):
                project.write({"index.html": f"{number}\n"})
                project.fab("deploy", code=code)
            project.configure(**{**keys, "health": None})
            project.fab("rollback")
            keys["hooks"]["before_switch"] = [f"{hook}; {barrier.hook}"]
            project.configure(**{**keys, "health": None})
            project.write({"index.html": "killed\n"})
            with project.start("deploy") as running:
                barrier.wait()
                os.kill(running.process.pid, signal.SIGKILL)
                eventually(lambda: running.process.poll() is not None, "the client is gone")
                subprocess.run(["sleep", "0.5"], check=True)  # its job runs alone, and is looked at
            barrier.open()
        assert seen == []
        assert _open_to_others(project.deploy_to / ".switchover") == []


def _open_to_others(folder: Path) -> list[str]:
    """What another account could read or enter if the folder above were open."""
    kept = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    assert len(kept) > 20
    return [f"{path}: {path.stat().st_mode:o}" for path in kept if path.stat().st_mode & 0o077]


def test_a_git_addresss_token_is_in_no_argument_list(
    home: Path, sshd_installed: None, tmp_path: Path
) -> None:
    with Sshd(user=home.name) as server, HealthPage(401) as page:
        project = Project(tmp_path / "project", server, server.new_dir() / "site")
        token = SECRETS["the git URL"]
        with watched(server.root, SECRETS) as seen:
            for user in (f"user:{token}", token):
                address = page.url.replace("http://", f"http://{user}@")
                project.configure(source={"git": address})
                said = project.fab("deploy", "--plan", code=None)
                assert said.code != 0 and token not in said.stdout + said.stderr
        assert seen == [] and any(page.authorized), page.authorized
