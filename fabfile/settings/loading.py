"""`load`: which file, what is laid over it, and all mistakes at once."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .mistakes import Layer, Mistake, Position, config_error, did_you_mean
from .model import CONFIG_NAME, CONFIG_VARIABLE, Settings
from .values import is_local_repository


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
    from . import checking, reading

    file = _find(path)
    base_dir = file.parent.resolve() if file else Path.cwd()
    command_line = Position("command line", 0, "")
    base, sections, mistakes = reading.read(file) if file else (Layer({}, {(): command_line}), {}, [])
    layers = {name: checking.merge(base, section) for name, section in sections.items()}
    if env is not None and env not in layers:
        mistakes.append(_unknown_environment(env, list(layers), file))
    chosen = checking.merge(layers.get(env or "", base), Layer(_flags(overrides or {}), {(): command_line}))
    for layer in (base, *layers.values(), chosen):
        keys, found = checking.check(layer, base_dir)
        mistakes += found
    if mistakes or keys is None:
        raise config_error(mistakes)

    _learn_secrets(keys)
    name = keys.application
    if name is None and keys.deploy_to is not None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", posixpath.basename(keys.deploy_to))
    return Settings(
        **vars(keys) | {"application": name},
        base_dir=base_dir,
        config_path=base_dir / file.name if file else None,
        environment=env,
        environments=tuple(sections),
    )


def _learn_secrets(keys: Any) -> None:
    """What the configuration keeps in URLs is shown nowhere."""
    urls = [keys.health.url if keys.health else None, keys.source.git if keys.source else None]
    if any(url and ("@" in url or "?" in url) for url in urls):
        from ..redaction import learn_url

        for url in filter(None, urls):
            learn_url(url)


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


def _flags(overrides: Mapping[str, object]) -> dict[str, Any]:
    """The command line as plain data. Its source starts from the working directory."""
    data: dict[str, Any] = {key: _plain(value) for key, value in overrides.items()}
    source = data.get("source")
    if isinstance(source, dict):
        for key, value in source.items():
            local = key == "path" or (key == "git" and is_local_repository(str(value)))
            if local and isinstance(value, str) and value.strip():
                source[key] = str(Path.cwd() / os.path.expanduser(value))  # noqa: PTH111
    return data


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def _unknown_environment(env: str, known: list[str], file: Path | None) -> Mistake:
    place = str(file) if file else "no configuration file was found, so it"
    names = f"{place} knows {', '.join(known)}" if known else f"{place} has no environments"
    return Mistake(0, f"--env {env}: unknown environment; {names}{did_you_mean(env, known)}")
