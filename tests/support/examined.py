"""Where a test points the diagnosis: a server, the settings, and a way to do what the diagnosis advises."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fabric
from ruamel.yaml import YAML

from fabfile import fleet
from fabfile.diagnosis import diagnose
from fabfile.fleet import Outcome
from fabfile.hosts import Target
from fabfile.report.diagnosis import document
from fabfile.settings import load
from tests.support.fab import FAB, REPOSITORY
from tests.support.trees import write

LIMIT = 120.0  # seconds for a command


class ExaminedHost:
    """A host as the diagnosis meets it.

    server: whose sshd_config can be changed, if one can. settings: what config.yaml says.
    namespace: the network namespace to look from. home: with the keys that are tried by themselves.
    """

    def __init__(
        self,
        server: Any = None,
        *,
        deploy_to: Path | str | None = None,
        host: str = "",
        port: int = 0,
        user: str = "",
        identity: Path | None = None,
        namespace: str = "",
        home: Path | None = None,
        **settings: Any,
    ) -> None:
        self.server = server
        self.host = host or getattr(server, "host", "127.0.0.1")
        self.port = port or server.port
        self.user = user or getattr(server, "user", "nobody")
        self.identity = identity or (getattr(server, "identity", None) if home is None else None)
        self.namespace = namespace
        self.folder = Path(tempfile.mkdtemp(prefix="switchover-place-"))
        self.home = home or self.folder
        ssh = {
            "known_hosts": str(self.folder / "known_hosts"),
            "connect_timeout": 5,
            **settings.pop("ssh", {}),
        }
        self.settings: dict[str, Any] = {**settings, "ssh": ssh}
        if deploy_to:
            self.settings["deploy_to"] = str(deploy_to)
        (self.folder / "ssh_config").touch()

    @property
    def address(self) -> str:
        """What -H is given."""
        return f"{self.user}@{self.host}:{self.port}"

    def examine(self, deep: float | None = None) -> dict[str, Any]:
        """The host's entry in the document of `diagnose --json`."""
        config = self.folder / "config.yaml"
        config.write_text(json.dumps(self.settings))
        if self.namespace:
            return self._from_namespace(deep)
        with _home(self.home):
            found = diagnose(
                load(config),
                [Target(self.address, str(self.identity) if self.identity else None)],
                deep=deep,
                config=fabric.Config(runtime_ssh_path=str(self.folder / "ssh_config")),
            )
        (entry,) = document(Outcome(), found, [])["hosts"]
        assert isinstance(entry, dict)
        return entry

    def _from_namespace(self, deep: float | None) -> dict[str, Any]:
        done = self.fab_run(["diagnose", "--json", *(["--deep", f"--wait={deep:g}"] if deep else [])])
        (entry,) = json.loads(done.stdout)["hosts"]
        assert isinstance(entry, dict)
        return entry

    @property
    def fab(self) -> list[str]:
        """The words of `fab -H …`, as somebody here would type them."""
        key = ["-i", str(self.identity)] if self.identity else []
        return [
            str(FAB),
            "-r",
            str(REPOSITORY),
            "-S",
            str(self.folder / "ssh_config"),
            *key,
            "-H",
            self.address,
        ]

    def fab_run(self, words: list[str], timeout: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """`fab -H … WORDS`, as somebody here would type it. Raises TimeoutExpired, when it was killed."""
        inside = ["ip", "netns", "exec", self.namespace, sys.executable] if self.namespace else []
        return self._run([*inside, *self.fab, *words], timeout)

    def _run(self, words: list[str], timeout: float = LIMIT) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.home)}
        return subprocess.run(
            words,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def source(self) -> Path:
        """What can be deployed: a handful of files, one of them as large as a picture."""
        return write(self.folder / "source", {"index.html": "<p>hello", "app/main.py": "print(1)\n",
                       "app/lib/util.py": "",
                       "public/picture.jpg": os.urandom(200_000), "storage/keep": ""})  # fmt: skip

    def deploy(self) -> None:
        """A release, while the host is healthy yet."""
        settings = load(None, overrides={**self.settings, "source": {"path": str(self.source())}})
        outcome = fleet.deploy(settings, [Target(self.address, str(self.identity))])
        assert outcome.ok, outcome.error

    def apply(self, fix: Mapping[str, str]) -> None:
        """Do what a finding advises, to the letter."""
        where, change = fix["where"], fix["change"]
        if where == "sshd_config":
            self.server.change(change)
        elif where == "config.yaml":
            _merge(self.settings, YAML(typ="safe").load(change))
        elif where == "host":
            subprocess.run(["sh", "-c", change], check=True, timeout=LIMIT, capture_output=True)
        else:
            words = shlex.split(change)
            if words[0] == "fab":
                words = [*self.fab, *words[words.index(self.address) + 1 :]]
            done = self._run(words)
            assert done.returncode == 0, f"{change}: {done.stdout}{done.stderr}"

    def close(self) -> None:
        """Forget the settings."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ["HOME"] = before or "/"


def _merge(into: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value
