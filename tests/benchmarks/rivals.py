"""What is timed: our commands, and what people would use instead, with the same site and server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.host import new_site
from tests.support.sshd import Sshd

REPOSITORY = Path(__file__).resolve().parents[2]
FAB = Path(sys.executable).parent / "fab"
LIMIT = 900.0  # seconds a command


@dataclass
class Run:
    """One command: seconds of the whole process, and what it said."""

    seconds: float
    out: str


def timed(words: list[str], cwd: Path, **environment: str) -> Run:
    """Run a command to its end, with what a person's shell has in its environment; raises where it fails."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SSH_"))}
    started = time.monotonic()
    with (cwd / "out").open("w+") as out, (cwd / "err").open("w+") as err:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        # wait(timeout) would look every 50 ms only.
        bound = threading.Timer(LIMIT, process.kill)
        bound.start()
        status = process.wait()
        seconds = time.monotonic() - started
        bound.cancel()
        out.seek(0)
        err.seek(0)
        if status:
            raise RuntimeError(f"{words[0]} -> {status}\n{out.read()}\n{err.read()[-2000:]}")
        return Run(seconds, out.read())


# A process of its own, since what is forked from a large one counts as large.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


@dataclass
class Rival:
    """Somebody who deploys `source` to a root of its own on `server`, through `port`."""

    server: Sshd
    port: int
    source: Path
    home: Path
    root: Path = field(init=False)
    last: Run = field(init=False)
    name = ""

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.root = new_site(self.server, self.name)
        self.set_up()

    def set_up(self) -> None:
        """Write what the tool reads."""

    def afresh(self) -> None:
        """Another root, with nothing in it."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root = new_site(self.server, self.name)
        self.set_up()

    def run(self, *words: str) -> float:
        """Run a command; its seconds."""
        self.last = timed(list(words), self.home, HOME=str(self.home))
        return self.last.seconds

    @property
    def ssh(self) -> list[str]:
        """OpenSSH's ssh, as one types it."""
        known = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]
        return ["ssh", "-p", str(self.port), "-i", str(self.server.identity), *known]

    @property
    def login(self) -> str:
        return f"{self.server.user}@127.0.0.1"


class Switchover(Rival):
    """Ours, all checks on."""

    name = "switchover"
    copy = "auto"
    keep = 3

    def set_up(self) -> None:
        settings = {
            "application": "bench",
            "deploy_to": str(self.root),
            "source": {"path": str(self.source)},
            "copy": self.copy,
            "keep_releases": self.keep,
            "ssh": {"known_hosts": str(self.home / "known_hosts")},
        }
        (self.home / "config.yaml").write_text(json.dumps(settings))
        (self.home / "ssh_config").touch()

    def deploy(self) -> float:
        """fab deploy"""
        return self._fab("deploy")

    def rollback(self) -> float:
        """fab rollback"""
        return self._fab("rollback")

    def peak_memory(self) -> int:
        """Of the client in one more deployment, in bytes."""
        self.run(sys.executable, "-c", MEASURE, *self._words("deploy"))
        return int(self.last.out)

    def _fab(self, task: str) -> float:
        return self.run(*self._words(task))

    def _words(self, task: str) -> list[str]:
        return [str(FAB), "-r", str(REPOSITORY), "-S", str(self.home / "ssh_config"), "-i",
                 str(self.server.identity), "-H", f"{self.login}:{self.port}", task, "--json"]  # fmt: skip

    @property
    def host(self) -> dict[str, Any]:
        """What the last command said of the host."""
        (entry,) = json.loads(self.last.out)["hosts"]
        assert isinstance(entry, dict)
        return entry

    def phases(self, *names: str) -> float:
        """Seconds that the last command spent in these."""
        return float(sum(self.host["phases"].get(name, 0) for name in names))


class Rsync(Rival):
    """The two lines: rsync into a cache, then ssh to copy it and to switch. It removes no old release."""

    name = "rsync"
    turn = 0

    def upload(self) -> float:
        """The first line."""
        rsync = ["rsync", "-a", "--delete", "-e", " ".join(self.ssh)]
        return self.run(*rsync, f"{self.source}/", f"{self.login}:{self.root}/cache/")

    def deploy(self) -> float:
        """Both."""
        self.turn += 1
        seconds = self.upload()
        script = (
            f"cd {self.root} && mkdir -p releases && cp -a cache releases/{self.turn} && "
            f"ln -s releases/{self.turn} next && mv -T next current"
        )
        return seconds + self.run(*self.ssh, self.login, script)

    def tidy(self) -> None:
        """Remove old releases, outside the time."""
        for release in sorted((self.root / "releases").iterdir(), key=lambda path: int(path.name))[:-3]:
            shutil.rmtree(release)


class Capistrano(Rival):
    """Capistrano with git, as `cap install` sets it up."""

    name = "capistrano"

    def set_up(self) -> None:
        (self.home / "config/deploy").mkdir(parents=True, exist_ok=True)
        (self.home / "Capfile").write_text(
            'require "capistrano/setup"\nrequire "capistrano/deploy"\nrequire "capistrano/scm/git"\n'
            "install_plugin Capistrano::SCM::Git\n"
        )
        self.repository = self.server.root / "site.git"
        if not self.repository.exists():
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.repository], check=True)
        (self.home / "config/deploy.rb").write_text(
            f'set :application, "bench"\nset :repo_url, "file://{self.repository}"\nset :branch, "main"\n'
            f'set :deploy_to, "{self.root}"\nset :keep_releases, 3\nset :format_options, log_file: nil\n'
        )
        (self.home / "config/deploy/production.rb").write_text(
            f'server "127.0.0.1", user: "{self.server.user}", port: {self.port}, roles: %w[web],\n'
            f'  ssh_options: {{ keys: ["{self.server.identity}"], verify_host_key: :never, '
            "keys_only: true, use_agent: false }\n"
        )

    def commit(self) -> None:
        """Push the site as it is now: what precedes a deployment with it."""
        git = ["git", "--git-dir", str(self.repository), "--work-tree", str(self.source), "-c", "user.name=b",
               "-c", "user.email=b@example.com", "-c", "gc.auto=0"]  # fmt: skip
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "site"], check=True)
        subprocess.run(["chown", "-R", self.server.user, str(self.repository)], check=True)

    def deploy(self) -> float:
        """cap production deploy"""
        return self.run("cap", "production", "deploy")

    def rollback(self) -> float:
        """cap production deploy:rollback"""
        return self.run("cap", "production", "deploy:rollback")


def has_capistrano() -> bool:
    """Whether it can be measured here."""
    return shutil.which("cap") is not None and shutil.which("git") is not None
