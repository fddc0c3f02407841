"""The lines of a first config.yaml: those that matter for this project, with the reasons beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..settings import HostEntry
from ..typed import command, program
from .host import Seen
from .project import Project

# What is of the project, and not of the site.
OURS = (".git", "/config.yaml", "/fabfile.py", "/.github/", "/.gitlab-ci.yml")


@dataclass(frozen=True)
class Draft:
    """What a configuration is made of. why: where deploy_to comes from. seen: what the hosts have."""

    application: str
    project: Project
    deploy_to: str
    why: str
    hosts: tuple[HostEntry, ...] = ()
    seen: tuple[Seen, ...] = ()

    def text(self) -> str:
        """The file."""
        return "\n".join([*self._head(), *self._source(), *self._shared(), *self._hooks(), *self._last(), ""])

    def _head(self) -> Iterator[str]:
        yield f"# Written by `{command('init')}`, which saw in this folder: {self.project.kind}."
        yield "# What is left out has its default; config.example.yaml explains every key."
        yield ""
        yield f"application: {scalar(self.application)}"
        yield ""
        yield f"# The folder on each host: {self.why}."
        served = "/".join(filter(None, [self.deploy_to, "current", self.project.root]))
        yield f"# Have the web server serve {visible(served)}"
        yield from (f"# {visible(line)}" for line in self._sites())
        yield f"deploy_to: {scalar(self.deploy_to)}"

    def _sites(self) -> Iterator[str]:
        for seen in self.seen:
            for site in seen.sites:
                if site.path != self.deploy_to and site.kind != "empty":
                    what = "has releases" if site.kind == "releases" else "is a folder with a site"
                    yield f"On {seen.name}, {site.path} {what}."

    def _source(self) -> Iterator[str]:
        project = self.project
        yield ""
        if project.git:
            yield "# What is committed. `path: .` instead would deploy the folder as it is."
            yield "source: {git: .}"
        else:
            yield f"source: {{path: {scalar(project.path)}}}"
        excluded = [*OURS, *project.exclude] if project.path == "." else []
        # A local file of secrets would be put into production, once.
        excluded += [f"/{name}" for name in project.secrets if f"/{name}" not in excluded]
        if excluded:
            yield "exclude:"
            yield from _items(excluded)

    def _shared(self) -> Iterator[str]:
        project = self.project
        if not project.dirs and not project.secrets:
            return
        yield ""
        yield "# What outlives releases: kept in shared/ there, and linked into each release."
        if project.secrets:
            names = ", ".join(f"{self.deploy_to}/shared/{name}" for name in project.secrets)
            yield f"# Put the host's own there, before the first deployment: {visible(names)}"
        yield "shared:"
        for key, paths in (("dirs", project.dirs), ("files", project.secrets)):
            if paths:
                yield f"  {key}: [{', '.join(scalar(path) for path in paths)}]"

    def _hooks(self) -> Iterator[str]:
        project = self.project
        after, possible = self._reloads()
        groups = (
            ("local_build", project.built, "Here, before anything is contacted."),
            ("before_switch", project.prepared, "On each host, in the new release, before it is live."),
            ("after_switch", after, "On each host, when it is live. A failure switches back."),
        )
        if any(commands for _, commands, _ in groups):
            yield ""
            yield "hooks:"
        for name, commands, what in groups:
            if commands:
                yield f"  # {what}"
                yield f"  {name}:"
                yield from _items(commands, "    ")
        if possible or project.advice:
            yield ""
        for one in possible:
            yield f"# With the right to it (sudoers): hooks: {{after_switch: [{scalar(one)}]}}"
        yield from (f"# {line}" for line in project.advice)

    def _reloads(self) -> tuple[list[str], list[str]]:
        """What tells PHP-FPM of a new release: what every host lets us do, and what else there is."""
        if not self.project.php:
            return [], []
        services = sorted({service for seen in self.seen for service in seen.fpm})
        may = [service for service in services if all(service in seen.may for seen in self.seen)]
        found = services or ([] if self.seen else ["php-fpm"])
        return _reload(may), _reload(service for service in found if service not in may)

    def _last(self) -> Iterator[str]:
        yield ""
        yield "# What must answer after the switch, else all go back."
        yield "# health: {url: http://127.0.0.1/}"
        yield ""
        if self.hosts:
            yield "hosts:"
            yield from (f"  - {_host(entry)}" for entry in self.hosts)
        else:
            yield f"# Or each time: {program('-H', 'user@host', 'deploy')}"
            yield "# hosts: [deploy@web1.example.com]"


def _reload(services: Iterable[str]) -> list[str]:
    return [f"sudo -n systemctl reload {service}" for service in services]


def _items(values: Sequence[str], indent: str = "  ") -> Iterator[str]:
    return (f"{indent}- {scalar(value)}" for value in values)


def _host(entry: HostEntry) -> str:
    given = {key: value for key, value in vars(entry).items() if value is not None}
    if set(given) == {"host"}:
        return scalar(entry.host)
    pairs = (
        f"{key}: {value if isinstance(value, int) else scalar(str(value))}" for key, value in given.items()
    )
    return f"{{{', '.join(pairs)}}}"


_PLAIN = re.compile(r"[A-Za-z./_](?:[A-Za-z0-9./_@+=-]|[ :](?=[A-Za-z0-9./_@+=-]))*")
_NOT_TEXT = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|\.inf|\.nan|\.?[0-9].*")


def scalar(text: str) -> str:
    """A text as YAML: as it is, where nothing else than a text can be read in it, else in quotes."""
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f")


def visible(text: str) -> str:
    """A text as part of a comment: on one line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
