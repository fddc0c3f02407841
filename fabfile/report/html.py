"""The report of a diagnosis as one self-contained page, to send to a colleague or the hosting company."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, SwitchoverError
from ..redaction import anonymize, clean
from .diagnosis import MARKS, PLACES, summary

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis, Finding
    from ..diagnosis.finding import Difference

# The stations on the way to a deployment, and the findings that put each out of order.
STATIONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("client", (), ("dns", "hostkey-changed", "hostkey-unknown", "key-file", "proxy-command")),
    ("network", (), ("tcp-filtered", "host-unreachable", "jump", "rate-limited", "mtu", "link-cut",
                     "slow-link", "peer-lossy", "idle-nat", "idle-balancer", "keepalive-too-slow",
                     "server-varies")),
    ("sshd", ("connect", "idle", "limits"), ()),
    ("shell", ("shell", "configuration", "tools"), ()),
    ("SFTP", ("sftp", "view"), ("sftp-slow",)),
    ("file system", ("storage", "layout", "rehearsal"), ()),
)  # fmt: skip


def check(path: Path) -> None:
    """See that the page can be written, before anything is contacted. Raises ConfigError."""
    why = ""
    if path.is_dir():
        why = "it is a directory"
    elif path.exists():
        why = "" if os.access(path, os.W_OK) else "it can't be written to"
    elif not path.parent.is_dir():
        why = f"there is no directory {path.parent}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        why = f"nothing can be written in {path.parent}"
    else:
        why = _try(path)
    if why:
        raise ConfigError(f"The report can't be written to {path}.", why, "Name another file with --html.")


def _try(path: Path) -> str:
    """Make the file, and remove it again: what rights don't tell (a read-only file system, a full one)."""
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def try_to_write(
    path: Path,
    found: Sequence[Diagnosis],
    apart: Sequence[Difference],
    names: Mapping[str, str] | None = None,
) -> SwitchoverError | None:
    """As write; the error where that fails."""
    try:
        write(path, found, apart, names)
    except SwitchoverError as error:
        return error
    return None


def write(
    path: Path,
    found: Sequence[Diagnosis],
    apart: Sequence[Difference],
    names: Mapping[str, str] | None = None,
) -> None:
    """Write the page to `path`; with `names`, without these. Raises SwitchoverError where that fails."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        if isinstance(value, Markup | int | float):
            return value
        text = clean(value, lines=True)
        return anonymize(text, names) if names else text

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters["plain"] = _plain
    page = environment.get_template("diagnosis.html.j2").render(
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        hosts=[_host(host) for host in found],
        differences=apart,
        marks=MARKS,
        places=PLACES,
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SwitchoverError(
            f"The report could not be written to {path}.", str(error), "Run it again with another --html."
        ) from error


def _plain(value: object) -> str:
    """A measured value for a person."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return "none" if value is None else str(value)


def _host(host: Diagnosis) -> Mapping[str, Any]:
    from ..diagnosis.afterwards import told
    from ..diagnosis.finding import STAGES

    longest = max([life.lived for life in host.idle], default=0.0)
    stages = []
    for stage in STAGES:
        findings = [finding for finding in host.findings if finding.stage == stage]
        if findings:
            stages.append((stage, _worst(findings), host.seconds.get(stage), summary(findings)))
    return {
        "diagnosis": host,
        "incident": told(host.incident) if host.incident else "",
        "status": _worst(host.findings),
        "stations": _stations(host.findings),
        "stages": stages,
        "longest": longest or 1.0,
        "checked": [finding for finding in host.findings if not finding.bad],
    }


def _worst(findings: Sequence[Finding]) -> str:
    statuses = {finding.status for finding in findings}
    return next((status for status in ("fail", "warn", "ok") if status in statuses), "skip")


def _stations(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Each station with its status; behind one that fails, what could not be looked at is skip."""
    claimed = {id for _, _, ids in STATIONS for id in ids}
    drawn = []
    for name, stages, ids in STATIONS:
        here = [f for f in findings if f.id in ids or (f.stage in stages and f.id not in claimed)]
        drawn.append((name, _worst(here)))
    return drawn
