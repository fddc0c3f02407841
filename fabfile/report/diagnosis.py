"""What a diagnosis found: for a person at a terminal, and as the JSON document of CONTRACT.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..events import count
from .documents import head
from .screen import Piece, Screen

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis, Finding
    from ..diagnosis.finding import Difference, Fix, IdleLife, Root
    from ..results import Outcome

Json = dict[str, Any]

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red"), "skip": ("·", "dim")}
PLACES = {
    "sshd_config": "in sshd_config, on the host",
    "config.yaml": "in config.yaml",
    "host": "on the host",
    "here": "on this machine",
    "send": "to the hosting company",
}
HEADLINE = {
    "server": "{}", "os": "{}", "round trip": "{} away", "file system": "{}", "free": "{} free",
    "live": "live: {}",
}  # fmt: skip
BAR = 40  # columns for the longest life of an idle connection


def document(outcome: Outcome, found: Sequence[Diagnosis], apart: Sequence[Difference]) -> Json:
    """diagnose --json."""
    return {
        **head(outcome),
        "hosts": [_host(host) for host in found],
        "differences": [
            {"fact": difference.fact, "values": {k: list(v) for k, v in difference.values.items()}}
            for difference in apart
        ],
    }


def _host(host: Diagnosis) -> Json:
    return {
        "host": host.host,
        "ok": host.ok,
        "verdict": {
            "what": host.verdict.what,
            "roots": [
                {"id": root.finding.id, "explains": [finding.id for finding in root.explains]}
                for root in host.verdict.roots
            ],
        },
        "findings": [_finding(finding) for finding in host.findings],
        "facts": host.facts,
        "seconds": host.seconds,
        "idle": [{"name": life.name, "lived": life.lived, "end": life.end} for life in host.idle],
        "incident": host.incident,
    }


def _finding(finding: Finding) -> Json:
    fix = finding.fix
    return {
        "id": finding.id,
        "status": finding.status,
        "what": finding.what,
        "why": finding.why,
        "try": finding.hint,
        "fix": {"where": fix.where, "change": fix.change} if fix else None,
        "evidence": finding.evidence,
    }


def show(found: Sequence[Diagnosis], apart: Sequence[Difference], html: str = "") -> None:
    """Verdict, what is wrong with the change that mends it, and what was looked at; for each host, the ones
    that can't be deployed to first. Hosts of which the same is true are told of once.
    """
    screen = Screen()
    if len(found) > 1:
        _overview(screen, found)
    for hosts in _alike(found):
        if len(found) == 1 or not hosts[0].ok or hosts[0].verdict.roots:
            _show_host(screen, hosts)
    if apart:
        _show_differences(screen, apart)
    if html:
        screen.blank()
        screen.say(f"The report is in {html}.")


def _alike(found: Sequence[Diagnosis]) -> list[list[Diagnosis]]:
    groups: dict[tuple[str, ...], list[Diagnosis]] = {}
    for host in sorted(found, key=_order):
        name = re.compile(rf"(?<![\w.-]){re.escape(host.host)}(?![\w-])")
        roots = [root.finding for root in host.verdict.roots]
        said = [host.verdict.what, *(text for f in roots for text in (f.id, f.status, f.what, f.why, f.hint))]
        groups.setdefault(tuple(name.sub("HOST", text) for text in said), []).append(host)
    return list(groups.values())


def _order(host: Diagnosis) -> int:
    return ("fail", "warn", "ok").index(_worst(host.findings))


def _worst(findings: Sequence[Finding]) -> str:
    statuses = {finding.status for finding in findings}
    return next((status for status in ("fail", "warn") if status in statuses), "ok")


def _overview(screen: Screen, found: Sequence[Diagnosis]) -> None:
    rows: list[list[Piece]] = []
    for host in sorted(found, key=_order):
        statuses = [finding.status for finding in host.findings]
        failed, warned = str(statuses.count("fail")), str(statuses.count("warn"))
        rows.append([MARKS[_worst(host.findings)], host.host, failed, warned, host.verdict.what])
    screen.blank()
    screen.table(
        ("", "host", "failed", "warned", "verdict"), rows, right=("failed", "warned"), flexible="verdict"
    )


def _show_host(screen: Screen, alike: Sequence[Diagnosis]) -> None:
    host = alike[0]
    facts = " · ".join(how.format(host.facts[name]) for name, how in HEADLINE.items() if host.facts.get(name))
    screen.blank()
    screen.say((host.host, "bold"), (f"   {facts}" if facts else "", "dim"))
    if len(alike) > 1:
        screen.labelled("and:", ", ".join(other.host for other in alike[1:]))
    if host.incident:
        from ..diagnosis.afterwards import told

        screen.say((told(host.incident), "dim"))
    style = "bold red" if not host.ok else "bold yellow" if host.verdict.roots else "bold green"
    screen.say((host.verdict.what, style))
    for root in host.verdict.roots:
        _show_root(screen, root)
    if host.idle:
        _show_idle(screen, host.idle)
    _show_stages(screen, host)


def _show_root(screen: Screen, root: Root) -> None:
    finding = root.finding
    mark, style = MARKS[finding.status]
    screen.blank()
    screen.say((f"{mark} ", style), (finding.what, "bold"), (f"  {finding.id}", "dim"))
    for label, text in (("seen", finding.why), ("try", finding.hint)):
        if text:
            screen.labelled(label, text, width=6)
    if finding.fix:
        _show_fix(screen, finding.fix)
    for other in root.explains:
        screen.labelled("so", f"{other.what}  {other.id}", width=6, style="dim")


def _show_fix(screen: Screen, fix: Fix) -> None:
    screen.say((f"{PLACES[fix.where]}:", "dim"), indent=8)
    for line in fix.change.split("\n"):
        screen.say((line, "cyan"), indent=10, whole=True)  # unwrapped, so that it can be copied


def _show_idle(screen: Screen, lives: Sequence[IdleLife]) -> None:
    longest = max(max(life.lived for life in lives), 0.1)
    screen.blank()
    screen.say("How long idle connections lived:")
    width = max(len(life.name) for life in lives)
    for life in lives:
        bar = "━" * max(1, round(BAR * life.lived / longest))
        ended = "still alive" if life.end == "ok" else life.end
        style = "green" if life.end == "ok" else "red"
        screen.say(f"  {life.name:<{width}}  {life.lived:6.1f} s  ", (f"{bar} {ended}", style), whole=True)


def _show_stages(screen: Screen, host: Diagnosis) -> None:
    from ..diagnosis.finding import STAGES

    rows: list[list[Piece]] = []
    for stage in STAGES:
        findings = [finding for finding in host.findings if finding.stage == stage]
        if findings:
            worst = next((s for s in ("fail", "warn", "ok") if any(f.status == s for f in findings)), "skip")
            seconds = f"{host.seconds[stage]:.2f}" if stage in host.seconds else ""
            rows.append([MARKS[worst], stage, seconds, summary(findings)])
    screen.blank()
    screen.table(
        ("", "stage", "seconds", "what was looked at"),
        rows,
        right=("seconds",),
        flexible="what was looked at",
    )


def summary(findings: Sequence[Finding]) -> str:
    """What came of the findings of one stage, in a line."""
    by = {status: [f for f in findings if f.status == status] for status in ("fail", "warn", "ok", "skip")}
    parts = []
    if by["fail"]:
        parts.append(f"{len(by['fail'])} failed: {', '.join(f.id for f in by['fail'])}")
    if by["warn"]:
        parts.append(f"{count(len(by['warn']), 'warning')}: {', '.join(f.id for f in by['warn'])}")
    if by["ok"]:
        parts.append(f"{len(by['ok'])} fine")
    if by["skip"]:
        reasons = sorted({f.why for f in by["skip"] if f.why})
        parts.append(f"{len(by['skip'])} not looked at: {'; '.join(reasons)}")
    return " · ".join(parts)


def _show_differences(screen: Screen, apart: Sequence[Difference]) -> None:
    screen.blank()
    screen.say(("Where the hosts differ", "bold"))
    for difference in apart:
        screen.say(difference.fact, indent=2)
        for value, hosts in difference.values.items():
            screen.say(f"{value}: {', '.join(hosts)}", indent=4)
