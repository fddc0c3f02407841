"""A project to deploy: a folder with config.yaml, and `fab` run in it; and where it is deployed to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric

from fabfile import fleet
from fabfile.commands.deployment import Options
from fabfile.events import Listener, silent
from fabfile.phases import OnPhase
from fabfile.settings import load
from tests.support.fab import FAB, TIMEOUT, Done, Running
from tests.support.sshd import Sshd


@dataclass
class DeployedSite:
    """A deployment root on a host, looked at from here."""

    deploy_to: Path

    @property
    def current(self) -> Path:
        """The link."""
        return self.deploy_to / "current"

    @property
    def live(self) -> str | None:
        """The id that `current` points at; None where there is no link."""
        if not self.current.is_symlink():
            return None
        target = self.current.readlink()
        assert target.parent == Path("releases"), target
        return target.name

    @property
    def released(self) -> list[str]:
        """The names in releases/."""
        return sorted(path.name for path in (self.deploy_to / "releases").iterdir())

    def states(self) -> dict[str, str]:
        """The records on the host: id -> state."""
        records = (self.deploy_to / ".switchover/releases").glob("*/record.json")
        return {path.parent.name: json.loads(path.read_text())["state"] for path in records}

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        numbers = [path for path in (self.deploy_to / ".switchover/lock").glob("[0-9]*")]
        newest = max(numbers, key=lambda path: int(path.name), default=None)
        return newest is not None and not (newest / "released").exists()

    def is_tidy(self) -> bool:
        """No upload is left over, and no lock."""
        return not self.locked() and not list((self.deploy_to / ".switchover/incoming").iterdir())


class Project(DeployedSite):
    """A folder with config.yaml and build/, and the server it is deployed to."""

    def __init__(self, folder: Path, server: Sshd, deploy_to: Path) -> None:
        super().__init__(deploy_to)
        self.folder = folder
        self.server = server
        (self.folder / "home").mkdir(parents=True)
        # `ssh -G` reads the real home's ssh_config whatever HOME says; an empty file keeps it out.
        self.ssh_config = self.folder / "ssh_config"
        self.ssh_config.touch()
        self.write({"index.html": "one\n", "css/site.css": "body {}\n", "about.html": "about\n"})
        self.configure()

    @property
    def build(self) -> Path:
        """The source."""
        return self.folder / "build"

    @property
    def known_hosts(self) -> Path:
        """The file of host keys that the configuration names."""
        return self.folder / "known_hosts"

    @property
    def environment(self) -> dict[str, str]:
        """What fab is started with."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SWITCHOVER_", "GITHUB_"))}
        return {**inherited, "HOME": str(self.folder / "home")}

    def write(self, files: dict[str, str | None]) -> None:
        """Put files into the source; None removes one."""
        for name, text in files.items():
            path = self.build / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def configure(self, **keys: Any) -> None:
        """Write config.yaml: the needed keys, and `keys` over them (None leaves one out)."""
        ssh = {"known_hosts": "./known_hosts", **keys.pop("ssh", {})}
        wanted = {"deploy_to": str(self.deploy_to), "source": {"path": "./build"}, "ssh": ssh, **keys}
        kept = {key: value for key, value in wanted.items() if value is not None}
        (self.folder / "config.yaml").write_text(json.dumps(kept, indent=1))  # JSON is YAML

    def address(self, port: int | None = None) -> str:
        """What -H is given."""
        return f"{self.server.user}@{self.server.host}:{port or self.server.port}"

    # -- running ---------------------------------------------------------------------------------------

    def fab(
        self,
        *args: str,
        code: int | None = 0,
        hosts: str | None = None,
        cwd: Path | None = None,
        timeout: float = TIMEOUT,
        **environment: str,
    ) -> Done:
        """Run `fab -H … ARGS` to its end; hosts: "" leaves -H out."""
        return self.start(*args, hosts=hosts, cwd=cwd, **environment).finish(code, timeout)

    def start(
        self, *args: str, hosts: str | None = None, cwd: Path | None = None, **environment: str
    ) -> Running:
        """Start it, and let it run."""
        named = self.address() if hosts is None else hosts
        given = ["-i", str(self.server.identity), *(["-H", named] if named else [])]
        if not {"-S", "--ssh-config"} & set(args):
            given += ["-S", str(self.ssh_config)]
        return Running([*given, *args], cwd or self.folder, {**self.environment, **environment})

    def type(self, line: str, code: int = 0) -> str:
        """Run a line as an error tells to type it; what it says."""
        path = f"{FAB.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env={**self.environment, "PATH": path}, timeout=TIMEOUT,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def deploy(
        self,
        *,
        listener: Listener = silent,
        targets: Sequence[str] = (),
        options: Options | None = None,
        on_phase: OnPhase | None = None,
    ) -> fleet.Outcome:
        """A deployment in this process, by the same configuration: what a test needs before its own."""
        settings = load(self.folder / "config.yaml")
        config = fabric.Config(runtime_ssh_path=str(self.ssh_config))
        addresses = targets or [self.address()]
        chosen = [fleet.Target(address, str(self.server.identity)) for address in addresses]
        return fleet.deploy(
            settings, chosen, options=options, listener=listener, config=config, on_phase=on_phase
        )

    def deployed(self, **how: Any) -> str:
        """Deploy in this process; the id of the release, which is live then."""
        outcome = self.deploy(**how)
        assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
        release = outcome.hosts[0].release
        assert release is not None and release == self.live
        return release


ProjectOn = Callable[..., Project]  # what the fixture `project_on` is


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a write would change: kinds, modes, sizes, mtimes, links, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        info = path.lstat()
        if path.is_symlink():
            content: object = path.readlink()
        else:
            content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (info.st_ino, info.st_mode, info.st_mtime_ns, content)
    return found


@contextlib.contextmanager
def untouched(project: DeployedSite) -> Iterator[None]:
    """What is live before is live afterwards: the link, and every byte of the tree that it points at."""
    assert project.live is not None, "deploy something first"
    link, tree = project.current.lstat(), snapshot(project.current.resolve())
    live = project.live
    yield
    assert project.live == live
    assert snapshot(project.current.resolve()) == tree
    assert project.current.lstat().st_ino == link.st_ino, "the link was replaced on the way"


def write_owned(project: Project, path: Path, text: str) -> None:
    """A file that the login account might have written into .switchover."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    for one in (*made, path):
        project.server.give(one)
        if one != path:
            one.chmod(0o700)


def nothing_is_left(project: Project) -> None:
    """Nothing half done: no lock, no upload, no job, no record of a release that is not there."""
    assert project.is_tidy()
    assert not list((project.deploy_to / ".switchover/jobs").iterdir())
    states = project.states()
    assert not {"building", "ready"} & set(states.values()), states
    assert set(project.released) == set(states)
