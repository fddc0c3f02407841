"""The report of a diagnosis as one self-contained page, to send to a colleague or the hosting company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..redaction import anonymize, redact
from .diagnosis import MARKS, PLACES, summary

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis, Finding
    from ..diagnosis.finding import Difference

# The stations on the way to a deployment, and the findings that put each out of order.
STATIONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("client", (), ("dns", "hostkey-changed", "hostkey-unknown")),
    ("network", (), ("tcp-filtered", "host-unreachable", "peer-lossy", "idle-nat", "idle-balancer",
                     "keepalive-too-slow", "server-varies")),
    ("sshd", ("connect", "idle", "limits"), ()),
    ("shell", ("shell", "configuration", "tools"), ()),
    ("SFTP", ("sftp", "view"), ("sftp-slow",)),
    ("file system", ("storage", "layout"), ()),
)  # fmt: skip


def write(
    path: Path, found: Sequence[Diagnosis], apart: Sequence[Difference], *, anonymous: bool = False
) -> None:
    """Write the page to `path`. anonymous: without the user names that were seen.

    Raises ConfigError where the file can't be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    names = {host.facts.get("user", "") for host in found} if anonymous else set()

    def clean(text: object) -> str:
        said = redact(str(text))
        return anonymize(said, names) if anonymous else said

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,  # not Markup
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
        raise ConfigError(
            f"The report can't be written to {path}.", str(error), "Name another file with --html."
        ) from error


def _plain(value: object) -> str:
    """A measured value for a person."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return "none" if value is None else str(value)


def _host(host: Diagnosis) -> Mapping[str, Any]:
    from ..diagnosis.finding import STAGES

    longest = max([life.lived for life in host.idle], default=0.0)
    stages = []
    for stage in STAGES:
        findings = [finding for finding in host.findings if finding.stage == stage]
        if findings:
            stages.append((stage, _worst(findings), host.seconds.get(stage), summary(findings)))
    return {
        "diagnosis": host,
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
