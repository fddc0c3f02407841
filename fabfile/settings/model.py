"""Every key of config.yaml, what it may be, and its default.

The sections are pydantic dataclasses: pydantic's own base class has a method called `copy`, which is a
key here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, is_dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

from .. import address
from ..errors import ConfigError
from . import values
from .values import seconds, whole

CONFIG_VARIABLE = "SWITCHOVER_CONFIG"
CONFIG_NAME = "config.yaml"

_FORBID_UNKNOWN = ConfigDict(extra="forbid")
_FLAGS = {"source": "--source DIR", "deploy_to": "--deploy-to PATH", "hosts": "-H HOST"}


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Source:
    """What is deployed: exactly one of `path` (absolute) and `git` (a URL or an absolute path)."""

    path: values.LocalPath | None = None
    git: values.Git | None = None
    ref: values.Ref | None = None
    subdir: values.Relative | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Shared:
    """What outlives releases: paths relative to a release, none inside another."""

    dirs: tuple[values.SharedPath, ...] = ()
    files: tuple[values.SharedPath, ...] = ()


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class HostEntry:
    """One host. None: Fabric's own ways decide (ssh_config, the local user, port 22). IPv6 is bare."""

    host: values.HostName
    user: values.User | None = None
    port: Annotated[int, whole(1, 65535)] | None = None
    identity: values.LocalPath | None = None


def _host_entry(value: object) -> object:
    """`[user@]host[:port]` as the HostEntry it stands for; a mapping as it is."""
    if isinstance(value, Mapping | HostEntry):
        return value
    allowed = "[user@]host[:port] (port 1 to 65535, IPv6 in brackets), or a mapping of host, user, port"
    try:
        if not isinstance(value, str):
            raise ValueError
        given = address.parse(value)
        return HostEntry(given.host, given.user, given.port)
    except ValueError:
        raise ValueError(allowed) from None


HostItem = Annotated[HostEntry, BeforeValidator(_host_entry, json_schema_input_type=str | HostEntry)]


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Keepalive:
    """A peer that is silent for interval (seconds) * count is dead."""

    interval: Annotated[float, seconds(0.1, 3600)] = 15
    count: Annotated[int, whole(1, 100)] = 4


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Reconnect:
    """How often, and for how long (window, seconds), a lost connection is tried again."""

    attempts: Annotated[int, whole(1, 1000)] = 8
    window: Annotated[float, seconds(0.1, 86400)] = 300


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Ssh:
    """The connection. Timeouts are seconds. host_keys, known_hosts: None where ssh_config is to say."""

    connect_timeout: Annotated[float, seconds(0.1, 600)] = 10
    keepalive: Keepalive = field(default_factory=Keepalive)
    reconnect: Reconnect = field(default_factory=Reconnect)
    command_timeout: Annotated[float, seconds(0.1, 86400)] = 1800
    host_keys: Literal["strict", "accept-new", "off"] | None = None
    known_hosts: values.LocalPath | None = None
    sftp: Literal["auto", "require", "off"] = "auto"
    sftp_root: values.Absolute | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Hooks:
    """Shell commands, in order; on the host in the new release unless the name says local."""

    local_build: tuple[values.Command, ...] = ()
    before_switch: tuple[values.Command, ...] = ()
    after_switch: tuple[values.Command, ...] = ()
    after_failure: tuple[values.Command, ...] = ()


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Health:
    """A URL that is fetched from the host after the switch. timeout: seconds."""

    url: values.Url
    expect_status: Annotated[int, whole(100, 599)] = 200
    timeout: Annotated[float, seconds(1, 3600)] = 30


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Confirm:
    """A host that does not hear from us for `within` seconds after the switch goes back by itself."""

    within: Annotated[int, whole(5, 3600)]


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Keys:
    """Everything config.yaml may say, but `environments`, whose sections are partial `Keys`."""

    application: values.Name | None = None
    deploy_to: values.DeployTo | None = None
    source: Source | None = None
    exclude: tuple[values.Pattern, ...] = (".git",)
    strategy: Literal["cache", "previous"] = "cache"
    transfer: Literal["auto", "stream", "rsync", "sftp"] = "auto"
    copy: Literal["auto", "recycle", "reflink", "hardlink", "full"] = "auto"
    keep_releases: Annotated[int, whole(1, 1000)] = 5
    shared: Shared = field(default_factory=Shared)
    hosts: tuple[HostItem, ...] = ()
    ssh: Ssh = field(default_factory=Ssh)
    hooks: Hooks = field(default_factory=Hooks)
    health: Health | None = None
    verify: Literal["uploaded", "full"] = "uploaded"
    confirm: Confirm | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Settings(Keys):
    """What config.yaml says, with the environment and the command line laid over it.

    base_dir:     the folder of config.yaml, else the working directory; absolute.
    config_path:  the file that was read, if any; absolute.
    environment:  the chosen one, if any.
    environments: the names the file knows.
    """

    base_dir: Path = field(default_factory=Path.cwd)
    config_path: Path | None = None
    environment: str | None = None
    environments: tuple[str, ...] = ()

    def require(self, *names: str) -> None:
        """Raise ConfigError unless each of these keys (`source`, `deploy_to`, …) was given."""
        missing = [name for name in names if getattr(self, name) in (None, ())]
        if not missing:
            return
        why = (
            f"There is no configuration file: {CONFIG_VARIABLE} is not set, "
            f"and {self.base_dir / CONFIG_NAME} does not exist."
        )
        if self.config_path:
            chosen = f" (environment {self.environment})" if self.environment else ""
            why = f"The settings come from {self.config_path}{chosen}."
        ways = [f"{name} in {self.config_path or CONFIG_NAME}{_or_flag(name)}" for name in missing]
        raise ConfigError(
            f"This needs {' and '.join(missing)}, which the configuration does not give.",
            why=why,
            hint="Give " + "; give ".join(ways) + ".",
        )


def _or_flag(name: str) -> str:
    return f", or the flag {_FLAGS[name]}" if name in _FLAGS else ""


def known_keys() -> list[str]:
    """Every key of config.yaml, dotted; `[]` stands for the items of a list: hosts[].port."""
    return ["environments", *_keys_of(Keys)]


def _keys_of(section: type, start: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(section).items():
        yield start + name
        for part in (hint, *get_args(hint)):  # Ssh, Health | None, tuple[HostEntry, ...]
            if isinstance(part, type) and is_dataclass(part):
                yield from _keys_of(part, f"{start}{name}{'[]' if get_origin(hint) is tuple else ''}.")
