"""config.yaml -> a frozen `Settings` tree, or one ConfigError that lists every mistake.

    load(path, env=…, overrides=…)
        _find            which file, if any
        _Reader          YAML -> plain data, and for each key where it stands (duplicates are found here)
        _merge           file <- environment <- command line
        _check           the models below, then rules between keys
        _say…            every mistake in plain words: FILE:LINE: key.path: what was found, what is allowed

To add a key: one line in its section's class, one in config.example.yaml (a test insists on it).

The sections are pydantic dataclasses: pydantic's own base class has a method called `copy`, which is a
key here. `config.example.yaml` says what each key does.
"""

from __future__ import annotations

import datetime
import difflib
import ipaddress
import os
import posixpath
import re
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import pathspec
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, ValidationInfo
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from .errors import ConfigError

__all__ = [
    "Health",
    "Hooks",
    "HostEntry",
    "Keepalive",
    "Reconnect",
    "Settings",
    "Shared",
    "Source",
    "Ssh",
    "known_keys",
    "load",
]

CONFIG_VARIABLE = "SWITCHOVER_CONFIG"
CONFIG_NAME = "config.yaml"

# ── What a single value may be ────────────────────────────────────────────────────────────────────────
# Each function returns the value to keep or raises ValueError; its text completes "allowed: …".

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*\$?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCP_STYLE = re.compile(r"[^/:]+:")  # user@host:path


def _text(value: object, allowed: str) -> str:
    """The value as a string, if it is one and not blank."""
    if isinstance(value, bool | int | float | datetime.date):
        raise ValueError(f"{allowed}, in quotes")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(allowed)
    return value


def _line(value: object, allowed: str) -> str:
    """Text without control characters (a newline, a NUL)."""
    text = _text(value, allowed)
    if _CONTROL.search(text):
        raise ValueError(f"{allowed}, without control characters")
    return text


def _whole(low: int, high: int) -> BeforeValidator:
    """A whole number from low to high; no text, no truth value."""
    allowed = f"a whole number from {low} to {high}"

    def check(value: object) -> int:
        if isinstance(value, str) and value.strip().isdigit():
            raise ValueError(f"{allowed}, without quotes")
        if type(value) is not int or not low <= value <= high:
            raise ValueError(allowed)
        return value

    return BeforeValidator(check)


def _seconds(low: float, high: float) -> BeforeValidator:
    """A number of seconds from low to high; fractions are fine."""
    allowed = f"a number of seconds from {low:g} to {high:g}"

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(allowed)
        return value

    return BeforeValidator(check)


def _name(value: object) -> str:
    """Something that is safe as a part of a path and of a message."""
    allowed = "letters, digits and . _ -"
    text = _line(value, allowed)
    if not _NAME.fullmatch(text) or text in (".", ".."):
        raise ValueError(allowed)
    return text


def _command(value: object) -> str:
    """A shell command; several lines are fine."""
    text = _text(value, "a shell command that is not empty")
    if _CONTROL.search(re.sub(r"[\n\t]", "", text)):
        raise ValueError("a shell command without control characters but newline and tab")
    return text


def _absolute(value: object) -> str:
    """A normalised absolute path on the host."""
    text = _line(value, "an absolute path on the host, such as /srv/shop")
    if not text.startswith("/"):
        raise ValueError("an absolute path on the host, such as /srv/shop")
    normal = "/" + posixpath.normpath(text).lstrip("/")
    if text != normal:
        raise ValueError(f"a path without doubled or trailing slashes and without . or .., such as {normal}")
    return text


def _deploy_to(value: object) -> str:
    """A normalised absolute path on the host, below the root."""
    text = _absolute(value)
    if text == "/":
        raise ValueError("a folder below /, such as /srv/shop")
    return text


def _relative(value: object) -> str:
    """A normalised relative path that stays inside."""
    text = _line(value, "a relative path, such as public/uploads")
    if text.startswith("/"):
        raise ValueError("a relative path, such as " + (text.strip("/") or "public/uploads"))
    normal = posixpath.normpath(text)
    if ".." in text.split("/") or normal == ".":
        raise ValueError("a relative path that stays inside, without ..")
    if text != normal:
        raise ValueError(f"a path without doubled or trailing slashes and without ., such as {normal}")
    return text


def _shared(value: object) -> str:
    """A path of a release that is linked to shared/."""
    text = _relative(value)
    if text.split("/")[0] == "REVISION":
        raise ValueError("any path but REVISION, which Switchover writes in each release")
    return text


def _pattern(value: object) -> str:
    """One gitignore pattern that can match something."""
    text = _line(value, "a gitignore pattern, such as node_modules/")
    try:
        patterns = list(pathspec.GitIgnoreSpec.from_lines([text]).patterns)
    except ValueError:
        raise ValueError("a valid gitignore pattern, such as node_modules/") from None
    if not patterns or any(pattern.include is None for pattern in patterns):
        raise ValueError("a gitignore pattern that matches something, such as node_modules/")
    return text


def _local_path(value: object, info: ValidationInfo) -> Path:
    """A path on this machine, made absolute from the folder of config.yaml; ~ is the home folder."""
    text = os.path.expanduser(_line(os.fspath(value) if isinstance(value, Path) else value, "a path"))  # noqa: PTH111
    if text.startswith("~"):
        raise ValueError("a path; there is no such user here")
    return Path(os.path.abspath(_base_dir(info) / text))  # noqa: PTH100 - and not resolve(): links stay


def _git(value: object, info: ValidationInfo) -> str:
    """A repository: a URL or user@host:path as it is, anything else as a path on this machine."""
    text = _line(value, "a repository's folder or address")
    if text.startswith("-") or "::" in text:
        raise ValueError("a folder, a URL or user@host:path")  # not an option, not a remote helper
    return str(_local_path(text, info)) if _is_local_repository(text) else text


def _is_local_repository(address: str) -> bool:
    """Git's own rule: no URL, and no colon before the first slash."""
    return not (address.startswith("-") or _URL.match(address) or _SCP_STYLE.match(address))


def _ref(value: object) -> str:
    """A branch, tag or commit."""
    text = _line(value, "a branch, tag or commit")
    if text.startswith("-") or re.search(r"\s", text):
        raise ValueError("a branch, tag or commit, without spaces and not starting with -")
    return text


def _url(value: object) -> str:
    """An http or https address."""
    allowed = "an http:// or https:// address, such as http://127.0.0.1/healthz"
    text = _line(value, allowed)
    try:
        parts = urllib.parse.urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", text):
        raise ValueError(allowed)
    return text


def _host_name(value: object) -> str:
    """A host name, an ssh_config alias, or an IP address; brackets around IPv6 are taken off."""
    allowed = "a host name or an address"
    text = _line(value, allowed)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            raise ValueError(f"{allowed}; user and port have keys of their own") from None
    elif bare != text or not _HOST.fullmatch(text):
        raise ValueError(allowed)
    return bare


def _user(value: object) -> str:
    """A login name."""
    text = _line(value, "a login name")
    if not _USER.fullmatch(text):
        raise ValueError("a login name of letters, digits and . _ - + @")
    return text


def _host_entry(value: object) -> object:
    """`[user@]host[:port]` as the mapping it stands for; mappings pass to HostEntry as they are."""
    if isinstance(value, Mapping | HostEntry):
        return value
    allowed = "[user@]host[:port] (port 1 to 65535, IPv6 in brackets), or a mapping of host, user, port"
    if not isinstance(value, str):
        raise ValueError(allowed)
    user, at, rest = value.rpartition("@")
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", rest)
    try:
        if not match:
            raise ValueError
        entry: dict[str, object] = {"host": _host_name(match[1])}
        if at:
            entry["user"] = _user(user)
        if match[2]:
            entry["port"] = int(match[2])
            if not 1 <= int(match[2]) <= 65535:
                raise ValueError
    except ValueError:
        raise ValueError(allowed) from None
    return entry


def _base_dir(info: ValidationInfo) -> Path:
    """What relative local paths start from: the folder of config.yaml, else the working directory."""
    base = (info.context or {}).get("base_dir")
    return base if isinstance(base, Path) else Path.cwd()


_LocalPath = Annotated[Path, BeforeValidator(_local_path)]
_Commands = tuple[Annotated[str, BeforeValidator(_command)], ...]
_SharedPaths = tuple[Annotated[str, BeforeValidator(_shared)], ...]

# ── The keys ──────────────────────────────────────────────────────────────────────────────────────────

_FORBID_UNKNOWN = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Source:
    """What is deployed: exactly one of `path` (absolute) and `git` (a URL or an absolute path)."""

    path: _LocalPath | None = None
    git: Annotated[str, BeforeValidator(_git)] | None = None
    ref: Annotated[str, BeforeValidator(_ref)] | None = None
    subdir: Annotated[str, BeforeValidator(_relative)] | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Shared:
    """What outlives releases: paths relative to a release, none inside another."""

    dirs: _SharedPaths = ()
    files: _SharedPaths = ()


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class HostEntry:
    """One host. None: Fabric's own ways decide (ssh_config, the local user, port 22). IPv6 is bare."""

    host: Annotated[str, BeforeValidator(_host_name)]
    user: Annotated[str, BeforeValidator(_user)] | None = None
    port: Annotated[int, _whole(1, 65535)] | None = None
    identity: _LocalPath | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Keepalive:
    """A peer that is silent for interval (seconds) * count is dead."""

    interval: Annotated[float, _seconds(0.1, 3600)] = 15
    count: Annotated[int, _whole(1, 100)] = 4


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Reconnect:
    """How often, and for how long (window, seconds), a lost connection is tried again."""

    attempts: Annotated[int, _whole(1, 1000)] = 8
    window: Annotated[float, _seconds(0.1, 86400)] = 300


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Ssh:
    """The connection. Timeouts are seconds."""

    connect_timeout: Annotated[float, _seconds(0.1, 600)] = 10
    keepalive: Keepalive = field(default_factory=Keepalive)
    reconnect: Reconnect = field(default_factory=Reconnect)
    command_timeout: Annotated[float, _seconds(0.1, 86400)] = 1800
    host_keys: Literal["strict", "accept-new", "off"] = "accept-new"
    known_hosts: _LocalPath = field(default_factory=lambda: Path("~/.ssh/known_hosts").expanduser())
    sftp: Literal["auto", "require", "off"] = "auto"
    sftp_root: Annotated[str, BeforeValidator(_absolute)] | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Hooks:
    """Shell commands, in order; on the host in the new release unless the name says local."""

    local_build: _Commands = ()
    before_switch: _Commands = ()
    after_switch: _Commands = ()
    after_failure: _Commands = ()


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Health:
    """A URL that is fetched from the host after the switch. timeout: seconds."""

    url: Annotated[str, BeforeValidator(_url)]
    expect_status: Annotated[int, _whole(100, 599)] = 200
    timeout: Annotated[float, _seconds(1, 3600)] = 30


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Confirm:
    """`within` seconds: a host that does not hear from us that long after the switch goes back by itself."""

    within: Annotated[int, _whole(5, 3600)]


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class _Keys:
    """Everything config.yaml may say, but `environments`, whose sections are partial `_Keys`."""

    application: Annotated[str, BeforeValidator(_name)] | None = None
    deploy_to: Annotated[str, BeforeValidator(_deploy_to)] | None = None
    source: Source | None = None
    exclude: tuple[Annotated[str, BeforeValidator(_pattern)], ...] = (".git/",)
    strategy: Literal["cache", "previous"] = "cache"
    transfer: Literal["auto", "stream", "rsync", "sftp"] = "auto"
    copy: Literal["auto", "reflink", "hardlink", "full"] = "auto"
    keep_releases: Annotated[int, _whole(1, 1000)] = 5
    shared: Shared = field(default_factory=Shared)
    hosts: tuple[Annotated[HostEntry, BeforeValidator(_host_entry)], ...] = ()
    ssh: Ssh = field(default_factory=Ssh)
    hooks: Hooks = field(default_factory=Hooks)
    health: Health | None = None
    verify: Literal["uploaded", "full"] = "uploaded"
    confirm: Confirm | None = None


@dataclass(frozen=True, config=_FORBID_UNKNOWN)
class Settings(_Keys):
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
        ways = [f"{name} in {self._file_name()}{_or_flag(name)}" for name in missing]
        raise ConfigError(
            f"This needs {' and '.join(missing)}, which the configuration does not give.",
            why=self._where_looked(),
            hint="Give " + "; give ".join(ways) + ".",
        )

    def _file_name(self) -> str:
        return str(self.config_path or CONFIG_NAME)

    def _where_looked(self) -> str:
        if self.config_path:
            chosen = f" (environment {self.environment})" if self.environment else ""
            return f"The settings come from {self.config_path}{chosen}."
        return (
            f"There is no configuration file: {CONFIG_VARIABLE} is not set, "
            f"and {self.base_dir / CONFIG_NAME} does not exist."
        )


_FLAGS = {"source": "--source DIR", "deploy_to": "--deploy-to PATH", "hosts": "-H HOST"}


def _or_flag(name: str) -> str:
    return f", or the flag {_FLAGS[name]}" if name in _FLAGS else ""


# ── Places: where a key stands ────────────────────────────────────────────────────────────────────────

_Loc = tuple[str | int, ...]

_UNREADABLE = object()  # stands for a value that was reported already, so nobody reports it again


class _Place(NamedTuple):
    """Where a value was given: `where` is FILE:LINE or the command line, `text` a scalar as written."""

    where: str
    line: int
    key: str
    text: str | None = None


class _Layer(NamedTuple):
    """Plain data and the place of each of its values."""

    data: dict[str, Any]
    places: dict[_Loc, _Place]


class _Problem(NamedTuple):
    """A mistake at a key of a layer."""

    loc: _Loc
    text: str


class _Mistake(NamedTuple):
    """A mistake with its place: one line of the ConfigError. Sorts by line."""

    line: int
    text: str


def _mistake(problem: _Problem, places: Mapping[_Loc, _Place]) -> _Mistake:
    """The problem at its place; what has none (a missing key) stands where its section does."""
    known = next(n for n in range(len(problem.loc), -1, -1) if problem.loc[:n] in places)
    place = places[problem.loc[:known]]
    key = _dotted(problem.loc[known:], place.key)
    return _Mistake(place.line, ": ".join(part for part in (place.where, key, problem.text) if part))


def _dotted(loc: Sequence[str | int], start: str = "") -> str:
    """('hosts', 0, 'port') -> hosts[0].port"""
    for part in loc:
        start += f"[{part}]" if isinstance(part, int) else f".{part}" if start else part
    return start


# ── Reading ───────────────────────────────────────────────────────────────────────────────────────────


def load(
    path: Path | None,
    *,
    env: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of one command.

    path:      the configuration file; None: what SWITCHOVER_CONFIG names, else ./config.yaml if there
               is one, else no file.
    env:       the section of `environments` that is laid over the file.
    overrides: what the command line says, nested like the file; laid over both. Relative paths in it
               start from the working directory.

    Sections are merged key by key; lists are replaced; a `source` that names `path` or `git` is replaced.
    Raises ConfigError with every mistake of the file, of all its environments and of the overrides.
    """
    file = _find(path)
    base_dir = file.parent.resolve() if file else Path.cwd()
    base, sections, mistakes = _read(file) if file else (_Layer({}, {}), {}, [])
    base.places.setdefault((), _Place("command line", 0, ""))
    flags = _flag_layer(overrides or {})

    layers = {name: _merge(base, section) for name, section in sections.items()}
    final = _merge(layers.get(env or "", base), flags)
    if env is not None and env not in layers:
        mistakes.append(_unknown_environment(env, list(layers), file))
    for layer in (base, *layers.values()):
        mistakes += _check(layer, base_dir)[1]
    keys, last_mistakes = _check(final, base_dir)
    mistakes += last_mistakes
    if mistakes or keys is None:
        raise _all_at_once(mistakes)
    return _settings(keys, base_dir, file, env, tuple(sections))


def _settings(
    keys: _Keys, base_dir: Path, file: Path | None, env: str | None, environments: tuple[str, ...]
) -> Settings:
    """The checked keys, with the application named after deploy_to where it has no name."""
    values = {each.name: getattr(keys, each.name) for each in fields(keys)}
    if keys.application is None and keys.deploy_to is not None:
        values["application"] = re.sub(r"[^A-Za-z0-9._-]+", "-", posixpath.basename(keys.deploy_to))
    return Settings(
        **values,
        base_dir=base_dir,
        config_path=base_dir / file.name if file else None,
        environment=env,
        environments=environments,
    )


def _all_at_once(mistakes: Sequence[_Mistake]) -> ConfigError:
    in_order = sorted(dict.fromkeys(mistakes), key=lambda each: each.line)
    count = "1 mistake" if len(in_order) == 1 else f"{len(in_order)} mistakes"
    return ConfigError(
        f"The configuration has {count}; nothing was contacted.",
        why="\n".join(_visible(mistake.text) for mistake in in_order),
        hint="config.example.yaml documents every key.",
    )


def _find(path: Path | None) -> Path | None:
    """The file to read. Raises ConfigError if it was named and isn't there."""
    named_by = "--config"
    if path is None and os.environ.get(CONFIG_VARIABLE):
        path, named_by = Path(os.environ[CONFIG_VARIABLE]), CONFIG_VARIABLE
    if path is None:
        return Path(CONFIG_NAME) if Path(CONFIG_NAME).exists() else None
    if not path.exists():
        raise ConfigError(
            f"The configuration file {path} does not exist.",
            why=f"{named_by} names it; looked for {path.absolute()}.",
            hint=f"Correct {named_by}, or start the file from config.example.yaml.",
        )
    return path


def _read(file: Path) -> tuple[_Layer, dict[str, _Layer], list[_Mistake]]:
    """The file as (what stands at the top, its environments, the mistakes of its form)."""
    reader = _Reader(str(file))
    data = reader.document(_file_text(file))
    layer = _Layer(data, reader.places)
    sections = _take_environments(layer, reader)
    return layer, sections, reader.mistakes


def _file_text(file: Path) -> str:
    """The file's text. Raises ConfigError if it can't be read or isn't UTF-8."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The configuration file {file} can't be read.",
            why=error.strerror or str(error),
            hint="Name a readable YAML file.",
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _form_error(f"{file}:{line}", "this line is not UTF-8; save the file as UTF-8") from error


def _form_error(where: str, text: str) -> ConfigError:
    """The file as a whole can't be understood: the one mistake that hides all others."""
    return _all_at_once([_Mistake(0, f"{where}: {text}")])


def _take_environments(layer: _Layer, reader: _Reader) -> dict[str, _Layer]:
    """Take `environments` out of the layer, as a layer each whose places still name the whole path."""
    found = layer.data.pop("environments", {})
    sections = {}
    for name, data in _mapping_or_mistake(found, ("environments",), "names to settings", reader).items():
        loc: _Loc = ("environments", name)
        if not _NAME.fullmatch(name):
            reader.mistake(loc, "the name of an environment; allowed: letters, digits and . _ -")
        section = _mapping_or_mistake(data, loc, "settings ({} for none)", reader)
        if "environments" in section:
            reader.mistake((*loc, "environments"), "an environment can't hold environments")
            del section["environments"]
        places = {each[2:]: place for each, place in layer.places.items() if each[:2] == loc}
        sections[name] = _Layer(section, places)
    return sections


def _mapping_or_mistake(value: object, loc: _Loc, of_what: str, reader: _Reader) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value is not _UNREADABLE:
        reader.mistake(loc, f"{_shown(value)}; allowed: a mapping of {of_what}")
    return {}


def _unknown_environment(env: str, known: list[str], file: Path | None) -> _Mistake:
    place = str(file) if file else "no configuration file was found, so it"
    names = f"{place} knows {', '.join(known)}" if known else f"{place} has no environments"
    return _Mistake(0, f"--env {env}: unknown environment; {names}{_did_you_mean(env, known)}")


def _flag_layer(overrides: Mapping[str, object]) -> _Layer:
    """The command line as a layer. Its source is relative to the working directory."""
    layer = _Layer({}, {})

    def walk(given: Mapping[str, object], into: dict[str, Any], loc: _Loc) -> None:
        for key, value in given.items():
            here = (*loc, key)
            layer.places[here] = _Place("command line", 0, _dotted(here))
            if isinstance(value, Mapping):
                into[key] = {}
                walk(value, into[key], here)
            elif loc == ("source",) and isinstance(value, str | Path) and _is_local(key, str(value)):
                into[key] = str(Path.cwd() / os.path.expanduser(value))  # noqa: PTH111
            else:
                into[key] = str(value) if isinstance(value, Path) else value

    walk(overrides, layer.data, ())
    return layer


def _is_local(key: str, address: str) -> bool:
    """Whether `source.<key>` names a folder on this machine."""
    if not address.strip():
        return False
    return key == "path" or (key == "git" and _is_local_repository(address))


class _Reader:
    """YAML text -> plain data. Collects the place of each value, and the mistakes of form.

    It reads ruamel's node tree: a loaded document no longer knows its duplicate keys.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[_Loc, _Place] = {(): _Place(f"{name}:1", 1, "")}
        self.mistakes: list[_Mistake] = []
        self._yaml = YAML(typ="safe", pure=True)
        self._open: list[Node] = []

    def mistake(self, loc: _Loc, text: str) -> None:
        self.mistakes.append(_mistake(_Problem(loc, text), self.places))

    def document(self, text: str) -> dict[str, Any]:
        """The mapping that the text is. Raises ConfigError if it isn't one."""
        try:
            with warnings.catch_warnings(action="ignore"):  # an anchor's name may be used again
                node = self._yaml.compose(text)
        except ReaderError as error:
            line = text[: error.position].count("\n") + 1
            raise _form_error(f"{self.name}:{line}", "a control character, which YAML can't hold") from error
        except MarkedYAMLError as error:
            raise self._syntax_error(error, text) from error
        except YAMLError as error:
            raise _form_error(f"{self.name}:1", f"not valid YAML: {error}") from error
        if node is None:
            raise _form_error(f"{self.name}:1", "the file is empty; start from config.example.yaml")
        if not isinstance(node, MappingNode):
            found = "a list" if isinstance(node, SequenceNode) else "a single value"
            line = node.start_mark.line + 1
            allowed = "allowed at the top: keys, such as deploy_to: /srv/shop"
            raise _form_error(f"{self.name}:{line}", f"{found}; {allowed}")
        return self._mapping(node, ())

    def _syntax_error(self, error: MarkedYAMLError, text: str) -> ConfigError:
        mark = error.problem_mark or error.context_mark
        lines = text.splitlines()
        number = min(mark.line if mark else 0, max(len(lines) - 1, 0))
        source = lines[number] if lines else ""
        said = _yaml_in_plain_words(str(error.problem or error.context), source)
        return _form_error(
            f"{self.name}:{number + 1}", f"not valid YAML: {said}; the line is: {source.strip()}"
        )

    def _value(self, node: Node, loc: _Loc, line: int) -> object:
        """The node's value; `line` is where the key or the list item starts."""
        text = node.value if isinstance(node.value, str) else None
        self.places.setdefault(loc, _Place(f"{self.name}:{line}", line, _dotted(loc), text))
        if any(node is each for each in self._open):
            self.mistake(loc, "an alias that holds itself")
            return _UNREADABLE
        if not str(node.tag).startswith("tag:yaml.org,2002:"):
            self.mistake(loc, f"the YAML tag {node.tag}; put a value that starts with ! in quotes")
            return _UNREADABLE
        if isinstance(node, MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, SequenceNode):
            return self._list(node, loc)
        return self._scalar(node, loc)

    def _scalar(self, node: Node, loc: _Loc) -> object:
        try:
            value = self._yaml.constructor.construct_object(node, deep=True)
            if isinstance(value, str):
                value.encode()  # refuses half a character, such as "\\ud83d"
            return value
        except (YAMLError, ValueError, LookupError, AttributeError):
            self.mistake(
                loc, f'found "{_short(node.value)}", which is no value; allowed: plain text or a number'
            )
            return _UNREADABLE

    def _list(self, node: SequenceNode, loc: _Loc) -> list[object]:
        self._open.append(node)
        items = [self._value(item, (*loc, n), item.start_mark.line + 1) for n, item in enumerate(node.value)]
        self._open.pop()
        return items

    def _mapping(self, node: MappingNode, loc: _Loc) -> dict[str, Any]:
        """Each key once; a second one is a mistake, and the first stays."""
        self._open.append(node)
        data: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not str(key_node.tag).endswith(":str") or _CONTROL.search(key_node.value):
                self._odd_key(key_node, loc, line)
                continue
            key: str = key_node.value
            value = self._value(value_node, (*loc, key), line)
            if key in first_lines:
                text = f"duplicate key; it is given on line {first_lines[key]} already"
                self.mistakes.append(_Mistake(line, f"{self.name}:{line}: {_dotted((*loc, key))}: {text}"))
            first_lines.setdefault(key, line)
            data.setdefault(key, value)
        self._open.pop()
        return data

    def _odd_key(self, node: Node, loc: _Loc, line: int) -> None:
        where = _dotted(loc)
        if str(node.tag).endswith(":merge"):
            text = "merge keys (<<) are not supported; write the keys out, or use environments"
        else:
            shown = node.value if isinstance(node.value, str) else "a list or mapping"
            text = f"the key {shown} is not plain text"
        parts = (f"{self.name}:{line}", where, text)
        self.mistakes.append(_Mistake(line, ": ".join(part for part in parts if part)))


def _yaml_in_plain_words(problem: str, source: str) -> str:
    """What a YAML parser complains about, as something a user can mend."""
    if "'\\t'" in problem:
        return "a tab; indent with spaces"
    if "undefined alias" in problem:
        return f"{problem.removeprefix('found ')}; put a value that starts with * in quotes"
    if "cannot start any token" in problem:
        return f"{problem.removeprefix('found ')}; put the value in quotes"
    if "mapping values are not allowed" in problem:
        return "a colon where none can be: a wrong indentation, or a value with a colon that needs quotes"
    if "another document" in problem:
        return "a second document (---); one file holds one"
    if "end of stream" in problem and ("'" in source or '"' in source):
        return "a quote that is not closed"
    return problem.replace("'<stream end>'", "the end of the file")


# ── Merging ───────────────────────────────────────────────────────────────────────────────────────────


def _merge(base: _Layer, over: _Layer) -> _Layer:
    """`over` laid over `base`: sections key by key, all else replaced.

    Each value keeps the place where it was given, so a mistake of `base` reads the same in what is
    laid over it, and is reported once.
    """
    merged = _Layer(dict(base.data), dict(base.places))
    _merge_section(merged.data, over.data, (), merged.places, over.places)
    return merged


def _merge_section(
    data: dict[str, Any],
    over: Mapping[str, Any],
    loc: _Loc,
    places: dict[_Loc, _Place],
    over_places: Mapping[_Loc, _Place],
) -> None:
    for key, value in over.items():
        here = (*loc, key)
        if _is_merged(here, data.get(key), value):
            data[key] = dict(data[key])
            _merge_section(data[key], value, here, places, over_places)
        else:
            data[key] = value
            for gone in [each for each in places if each[: len(here)] == here]:
                del places[gone]
            places.update({each: at for each, at in over_places.items() if each[: len(here)] == here})


def _is_merged(loc: _Loc, old: object, new: object) -> bool:
    """Sections are; not lists, not what is unknown, and not a source that names path or git."""
    if not isinstance(old, dict) or not isinstance(new, dict) or not _keys_at(loc):
        return False
    return loc != ("source",) or not ("path" in new or "git" in new)


# ── Checking ──────────────────────────────────────────────────────────────────────────────────────────


def _check(layer: _Layer, base_dir: Path) -> tuple[_Keys | None, list[_Mistake]]:
    """The layer as keys, or None and every mistake in it."""
    problems = [*_source_problems(layer.data), *_shared_problems(layer.data), *_host_problems(layer.data)]
    keys = None
    try:
        keys = _ADAPTER.validate_python(layer.data, context={"base_dir": base_dir})
    except ValidationError as error:
        for each in error.errors(include_url=False):
            if each["input"] is not _UNREADABLE:
                problems.append(_Problem(each["loc"], _say(dict(each), layer.places)))
    return keys, [_mistake(problem, layer.places) for problem in problems]


_ADAPTER = TypeAdapter(_Keys)


def _source_problems(data: Mapping[str, Any]) -> Iterator[_Problem]:
    """Exactly one of path and git; ref and subdir only with git."""
    source = data.get("source")
    if not isinstance(source, dict):
        return
    given = [key for key in ("path", "git") if source.get(key) is not None]
    if len(given) != 1:
        found = "both path and git" if given else "neither path nor git"
        yield _Problem(("source",), f"found {found}; allowed: exactly one of path and git")
    if given == ["path"]:
        for key in ("ref", "subdir"):
            if source.get(key) is not None:
                yield _Problem(("source", key), f"found next to path; allowed: {key} only with git")


def _shared_problems(data: Mapping[str, Any]) -> Iterator[_Problem]:
    """No shared path twice, none inside another."""
    shared = data.get("shared")
    if not isinstance(shared, dict):
        return
    earlier: list[tuple[str, _Loc]] = []
    for loc, value in _items(shared, ("shared", "dirs"), ("shared", "files")):
        if not _passes(_relative, value):
            continue
        for other, other_loc in earlier:
            if relation := _relation(str(value), other):
                found = f'found "{value}", which {relation} {_dotted(other_loc)} ("{other}")'
                yield _Problem(loc, f"{found}; allowed: separate paths")
                break
        earlier.append((str(value), loc))


def _relation(path: str, other: str) -> str | None:
    if path == other:
        return "is the same as"
    if path.startswith(other + "/"):
        return "lies inside"
    return "holds" if other.startswith(path + "/") else None


def _host_problems(data: Mapping[str, Any]) -> Iterator[_Problem]:
    """No machine twice: the same host and port, whoever logs in."""
    earlier: dict[tuple[str, int], _Loc] = {}
    for loc, value in _items(data, ("hosts",)):
        try:
            entry = _host_entry(value)
            entry = HostEntry(**entry) if isinstance(entry, dict) else entry
        except (ValueError, TypeError):
            continue  # the models report it
        if not isinstance(entry, HostEntry):
            continue
        machine = (entry.host.lower(), entry.port or 22)
        if machine in earlier:
            other = _dotted(earlier[machine])
            yield _Problem(
                loc, f"found {entry.host} again; {other} is the same host; allowed: each host once"
            )
        earlier.setdefault(machine, loc)


def _items(data: Mapping[str, Any], *locs: tuple[str, ...]) -> Iterator[tuple[_Loc, object]]:
    """The items of the lists at these places (the last part is the key in `data`), with their own."""
    for loc in locs:
        found = data.get(loc[-1])
        if isinstance(found, list | tuple):
            for n, item in enumerate(found):
                yield (*loc, n), item


def _passes(check: Callable[[object], object], value: object) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True


# ── Plain words ───────────────────────────────────────────────────────────────────────────────────────


def _say(error: Mapping[str, Any], places: Mapping[_Loc, _Place]) -> str:
    """One of pydantic's errors as `what was found; what is allowed`."""
    loc: _Loc = error["loc"]
    kind: str = error["type"]
    if kind == "missing":
        return "found nothing; this key is required here"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return _say_unknown(loc)
    found = error["input"]
    place = places.get(loc)
    shown = _shown(found, place.text if place else None)
    if kind == "value_error":
        return f"{shown}; allowed: {error['ctx']['error']}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        nearest = _did_you_mean(found, choices) if isinstance(found, str) else ""
        return f"{shown}; allowed: {_or(choices)}{nearest}"
    if kind == "tuple_type":
        return f"{shown}; allowed: {_say_list(found)}"
    if kind in ("dataclass_type", "dataclass_exact_type"):
        return f"{shown}; allowed: a mapping of {', '.join(_keys_at(loc))}"
    return f"{shown}; allowed: another kind of value ({kind})"


def _say_list(found: object) -> str:
    if isinstance(found, str):
        quoted = '"' + found.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"a list; write a list: [{quoted}]"
    return "a list; write [] for an empty one"


def _say_unknown(loc: _Loc) -> str:
    """An unknown key: its neighbour by name, else where a key of this name belongs, else what is known."""
    name, known = str(loc[-1]), _keys_at(loc[:-1])
    near = _did_you_mean(name, known)
    if not near:
        homes = [key for key in known_keys() if re.split(r"[.\]]+", key)[-1] == name]
        near = f"; did you mean '{homes[0]}'?" if homes else f"; known here: {', '.join(known)}"
    return f"unknown key{near}"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), [*known], n=1)
    near = near or difflib.get_close_matches(name.lower(), [*known], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: object, text: str | None = None) -> str:
    """`found …` with the value as it was written, and what YAML took it for."""
    if value is None:
        return "found nothing"
    if isinstance(value, Mapping):
        return "found a mapping"
    if isinstance(value, list | tuple):
        return "found a list"
    if isinstance(value, str):
        return f'found "{_short(value)}"'
    kind = {bool: "a truth value", int: "a number", float: "a number"}.get(type(value), "a date")
    return f"found {_short(text or str(value))} ({kind})"


def _short(text: str) -> str:
    """At most 60 characters."""
    return text if len(text) <= 60 else text[:59] + "…"


def _visible(text: str) -> str:
    """One line that any terminal can show: control characters as \\n, \\x00, …"""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def known_keys() -> list[str]:
    """Every key of config.yaml, dotted; `[]` stands for the items of a list: hosts[].port."""
    return ["environments", *_keys_of(_Keys, "")]


def _keys_of(section: type, start: str) -> Iterator[str]:
    for name, annotation in get_type_hints(section, include_extras=True).items():
        key = f"{start}.{name}" if start else name
        yield key
        if inner := _section_in(annotation):
            yield from _keys_of(inner, key + ("[]" if "tuple" in str(annotation) else ""))


def _section_in(annotation: object) -> type | None:
    """The section that a key holds: `Health | None` -> Health."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_in(each))), None)


def _keys_at(loc: _Loc) -> list[str]:
    """The names that are known in the section at this place."""
    start = re.sub(r"\[\d+\]", "[]", _dotted(loc))
    start = f"{start}." if start else ""
    inside = [key.removeprefix(start) for key in known_keys() if key.startswith(start)]
    return [key for key in inside if "." not in key]
