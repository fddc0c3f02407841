"""From a folder and some hosts to the files of a first deployment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric

from .. import address
from ..errors import ConfigError
from ..events import Listener
from ..hosts import Target, opened
from ..settings import HostEntry, Settings
from ..settings.model import CONFIG_NAME
from ..typed import command
from . import files, folder
from .draft import Draft
from .host import Seen, look

Ask = Callable[[str, str], str]  # (question, default) -> answer


@dataclass(frozen=True)
class Wish:
    """The files that are wanted. ci: "", github or gitlab."""

    config: Path
    fabfile: bool = False
    ci: str = ""

    def paths(self) -> list[Path]:
        """Where they go. Raises ConfigError for a CI that is not known."""
        if self.ci and self.ci not in files.CI:
            raise ConfigError(
                f"--ci {self.ci} is not known.", f"known: {', '.join(files.CI)}", "Correct --ci."
            )
        here = self.config.parent
        more = [files.FABFILE] * self.fabfile + ([files.CI[self.ci]] if self.ci else [])
        return [self.config, *(here / path for path in more)]


@dataclass(frozen=True)
class Begun:
    """What was found and written. next: what to type then."""

    draft: Draft
    written: tuple[Path, ...]
    next: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        written = [str(path) for path in self.written]
        return {"written": written, "kind": self.draft.project.kind, "deploy_to": self.draft.deploy_to}


def begin(
    wish: Wish,
    targets: Sequence[Target],
    deploy_to: str,
    ask: Ask | None,
    listener: Listener,
    config: fabric.Config | None,
) -> Begun:
    """Look at the folder of the configuration and at the hosts, and write what is wished.

    deploy_to: as given, or "". ask: None where nobody can be asked. Raises ConfigError, where a file is there
    already too, and what connecting raises; then nothing was written.
    """
    paths = wish.paths()
    files.refuse_existing(paths)
    if ask and not targets and (answer := ask("A host to look at, user@host", "none")) != "none":
        targets = [Target(answer)]
    here = wish.config.parent
    project, name = folder.look(here), folder.name(here)
    with_keys = [_with_key(target, config) for target in targets]
    seen = _look(with_keys, listener, config)
    chosen, why = (deploy_to, "as given") if deploy_to else choose(name, seen)
    if ask and not deploy_to and (answer := ask("The folder on each host", chosen)) != chosen:
        chosen, why = answer, "as given"
    hosts = tuple(_entry(target) for target in with_keys)
    draft = Draft(name, project, chosen, why, hosts, tuple(seen))
    texts = [draft.text(), *(files.template(kind) for kind in ["fabfile"] * wish.fabfile + [wish.ci] if kind)]
    files.check(texts[0])
    files.write(dict(zip(paths, texts, strict=True)))
    named = [] if wish.config == Path(CONFIG_NAME) else ["--config", str(wish.config)]
    return Begun(draft, tuple(paths), command("deploy", "--plan", *named))


def choose(name: str, seen: Sequence[Seen]) -> tuple[str, str]:
    """The folder on the hosts, and why that one: what every host has or may have."""
    default = f"/srv/{name}"
    if not seen:
        return default, "a guess; its account has to be able to write there"
    for kind, why in (("releases", "it has releases already"), ("empty", "it is empty, and ours to write")):
        common = set.intersection(*({s.path for s in each.sites if s.kind == kind} for each in seen))
        named = [path for path in common if path.rpartition("/")[2] == name]
        if len(chosen := named or sorted(common)) == 1 and (named or kind == "releases"):
            return chosen[0], why
    taken = {site.path for each in seen for site in each.sites}
    for parent in seen[0].parents:
        path = f"{parent}/{name}"
        if all(parent in each.parents for each in seen) and path not in taken:
            return path, f"this account may write in {parent}"
    return default, "none was found that this account may write to: have it made, with chown"


def _look(targets: Sequence[Target], listener: Listener, config: fabric.Config | None) -> list[Seen]:
    if not targets:
        return []
    with opened(Settings(), targets, listener, config) as hosts:
        return [look(host) for host in hosts]


def _with_key(target: Target, config: fabric.Config | None) -> Target:
    """With the key that -i names, so that it is written down."""
    given = (config.connect_kwargs.get("key_filename") if config else None) or []
    keys = [given] if isinstance(given, str) else list(given)
    return Target(target.address, target.identity or (keys[0] if len(keys) == 1 else None))


def _entry(target: Target) -> HostEntry:
    try:
        given = address.parse(target.address)
    except ValueError as error:
        why = f"found {target.address!r}; allowed: {error}"
        raise ConfigError("A host is not named as it should be.", why, "Correct it.") from None
    key = Path(target.identity) if target.identity else None
    return HostEntry(given.host, given.user, given.port, key)
