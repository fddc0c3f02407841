"""A deploy_to on a server, driven through the Python API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabfile import fleet, settings
from fabfile.demo.server import Server
from fabfile.fleet import Outcome, Target
from tests.support.sshd import Sshd

AnyServer = Server | Sshd


def target(server: AnyServer) -> Target:
    """The server as a host of a deployment."""
    return Target(f"{server.user}@{server.host}:{server.port}", str(server.identity))


def ssh_rules(server: AnyServer) -> dict[str, Any]:
    """The section `ssh` for a server that is known; a drop that lasts ends a test soon."""
    reconnect = {"attempts": 3, "window": 20}
    return {"known_hosts": str(server.known_hosts), "host_keys": "strict", "reconnect": reconnect}


@dataclass
class Site:
    """One deploy_to on one server, driven through the Python API.

    keys: what config.yaml would say for it, over what is set here already.
    """

    server: AnyServer
    deploy_to: Path
    keys: dict[str, Any]

    def settings(self, source: Path | dict[str, str] | None = None, **more: Any) -> settings.Settings:
        """Settings for this site; `more` are further top-level keys."""
        chosen: dict[str, Any] = {
            "application": "shop",
            "deploy_to": str(self.deploy_to),
            "exclude": [],
            "ssh": ssh_rules(self.server),
            **self.keys,
            **more,
        }
        if source is not None:
            chosen["source"] = source if isinstance(source, dict) else {"path": str(source)}
        return settings.load(None, overrides=chosen)

    def deploy(
        self, source: Path | dict[str, str], *, options: Any = None, plan: bool = False, **more: Any
    ) -> fleet.HostResult:
        """A deployment that must succeed; what became of the host."""
        return good(
            fleet.deploy(self.settings(source, **more), [target(self.server)], options=options, plan=plan)
        )

    def try_deploy(self, source: Path | dict[str, str], **more: Any) -> Outcome:
        """A deployment that may fail."""
        return fleet.deploy(self.settings(source, **more), [target(self.server)])

    def rollback(self, to: str | None = None, **more: Any) -> fleet.HostResult:
        """A rollback that must succeed."""
        return good(fleet.rollback(self.settings(**more), [target(self.server)], to=to))

    def cache_sync(self, source: Path, **more: Any) -> fleet.HostResult:
        """A cache-sync that must succeed; `verify` and `repair` are its own, `more` are keys."""
        own = {name: more.pop(name) for name in ("verify", "repair") if name in more}
        return good(fleet.cache_sync(self.settings(source, **more), [target(self.server)], **own))

    def states(self) -> dict[str, str]:
        """The state of each release, oldest first."""
        outcome, listings = fleet.releases(self.settings(), [target(self.server)])
        assert outcome.exit_code == 0, outcome.error
        return {record.id: record.state for record in listings[0].releases}

    @property
    def current(self) -> Path:
        """The live release's directory, as the link says it."""
        return self.deploy_to / (self.deploy_to / "current").readlink()

    @property
    def shared(self) -> Path:
        return self.deploy_to / "shared"

    @property
    def cache(self) -> Path:
        return self.deploy_to / "cache"


def good(outcome: Outcome) -> fleet.HostResult:
    """The one host of an outcome that must be good."""
    error = outcome.error
    assert outcome.exit_code == 0, f"{error and error.what}\n{error and error.why}\n{error and error.hint}"
    assert len(outcome.hosts) == 1
    return outcome.hosts[0]


def give_all(server: AnyServer, path: Path) -> None:
    """Make a path, and what is below it, the login account's: what a test put there by hand."""
    if isinstance(server, Sshd):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                server.give(Path(folder) / name)
        server.give(path)


def assert_tidy(site: Site) -> None:
    """Nothing half done is left: no upload, no temporary link, no lock, and `current` is a relative link."""
    own = site.deploy_to / ".switchover"
    assert not list((own / "incoming").iterdir())
    assert not os.path.lexists(own / "current.new")
    assert not list(own.rglob("*.new")), "temporary files are left"
    locks = sorted((own / "lock").iterdir(), key=lambda path: int(path.name))
    assert (locks[-1] / "released").exists()
    link = (site.deploy_to / "current").readlink()
    assert link.parts[0] == "releases"
    assert (site.deploy_to / link).is_dir()
