"""A host as it is to be made, and how it is reached. It is healthy until a kind of fault changes it."""

from __future__ import annotations

import contextlib
import pwd
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.accounts import account
from tests.support.examined import ExaminedHost
from tests.support.network import Routed
from tests.support.sshd import Sshd

PATIENCE: dict[str, Any] = {
    "connect_timeout": 5, "command_timeout": 60, "reconnect": {"attempts": 3, "window": 15},
}  # fmt: skip


@dataclass
class Host:
    """A host that stands, for what is done to it. open: what ends with it."""

    server: Sshd
    site: Path
    place: ExaminedHost
    open: ExitStack

    @property
    def home(self) -> Path:
        """The account's."""
        return Path(pwd.getpwnam(self.server.user).pw_dir)

    def write(self, path: Path, text: str, mode: int = 0o644) -> Path:
        """A file of the account's, with the folders that it needs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        for made in (path.parent, path):
            self.server.give(made)
        return path


@dataclass
class Recipe:
    """shell: of the login. start_up: lines of ~/.bashrc. lines: of sshd_config. sftp: the subsystem's.
    deployed: whether a site stands there already. changes: what is done to the host, in order, then to the
    way there (ways), then to this machine's side (client). anew: what is to be forgotten before another
    command. rules: of a router in between, where there is one. deep: seconds that idle connections are
    watched.
    """

    shell: str = ""
    start_up: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    sftp: str | None = "internal-sftp"
    deployed: bool = False
    changes: list[Callable[[Host], None]] = field(default_factory=list)
    ways: list[Callable[[int], AbstractContextManager[int]]] = field(default_factory=list)
    client: list[Callable[[Host], None]] = field(default_factory=list)
    anew: list[Callable[[Host], None]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    rules: str = ""
    deep: float | None = None

    @contextlib.contextmanager
    def made(self) -> Iterator[Host]:
        """The host, as this machine meets it. Raises what makes it impossible to make."""
        with ExitStack() as stack:
            user = stack.enter_context(account())
            server: Sshd
            if self.rules:
                server = Routed(rules=self.rules, user=user)
                stack.callback(server.tear_down)
                server.build()
            else:
                server = Sshd(user=user)
            stack.enter_context(server)
            site = server.new_dir()
            namespace = server.client if isinstance(server, Routed) else ""
            place = ExaminedHost(server, deploy_to=site, namespace=namespace, ssh=PATIENCE)
            stack.callback(place.close)
            host = Host(server, site, place, stack)
            if self.deployed and not self.rules:
                place.deploy()
                (place.folder / "known_hosts").unlink(missing_ok=True)
            place.settings["ssh"] |= self.settings.pop("ssh", {})
            place.settings |= self.settings
            self._break(host)
            yield host

    def set(self, host: Host, *lines: str, sftp: str | None = None) -> None:
        """More lines of sshd_config, and another subsystem, for a host that stands already."""
        self.lines += lines
        self.sftp = sftp or self.sftp
        host.server.reconfigure("\n".join(self.lines), self.sftp)

    def _break(self, host: Host) -> None:
        if self.start_up:
            host.write(host.home / ".bashrc", "\n".join([*self.start_up, ""]))
        if self.shell:
            subprocess.run(["usermod", "-s", self.shell, host.server.user], check=True, capture_output=True)
        if self.lines or self.sftp != "internal-sftp":
            host.server.reconfigure("\n".join(self.lines), self.sftp)
        for change in self.changes:
            change(host)
        for way in self.ways:
            host.place.port = host.open.enter_context(way(host.place.port))
        for change in self.client:
            change(host)
