"""What a diagnosis found: for a person at a terminal, and as the JSON document of CONTRACT.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..events import count
from ..redaction import redact
from .console import make_console
from .documents import head

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..diagnosis import Diagnosis, Finding
    from ..diagnosis.finding import Difference, Fix, IdleLife, Root
    from ..fleet import Outcome

Json = dict[str, Any]

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red"), "skip": ("·", "dim")}
PLACES = {
    "sshd_config": "in sshd_config, on the host",
    "config.yaml": "in config.yaml",
    "host": "on the host",
    "here": "on this machine",
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
            "what": redact(host.verdict.what),
            "roots": [
                {"id": root.finding.id, "explains": [finding.id for finding in root.explains]}
                for root in host.verdict.roots
            ],
        },
        "findings": [_finding(finding) for finding in host.findings],
        "facts": _clean(host.facts),
        "seconds": host.seconds,
        "idle": [{"name": life.name, "lived": life.lived, "end": life.end} for life in host.idle],
        "incident": _clean(host.incident),
    }


def _finding(finding: Finding) -> Json:
    fix = finding.fix
    return {
        "id": finding.id,
        "status": finding.status,
        "what": redact(finding.what),
        "why": redact(finding.why),
        "try": redact(finding.hint),
        "fix": {"where": fix.where, "change": redact(fix.change)} if fix else None,
        "evidence": _clean(finding.evidence),
    }


def _clean(value: object) -> Any:
    """As JSON, without secrets."""
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


def show(found: Sequence[Diagnosis], apart: Sequence[Difference], html: str = "") -> None:
    """Verdict, what is wrong with the change that mends it, and what was looked at; for each host."""
    console = make_console()
    if len(found) > 1:
        _overview(console, found)
    for host in found:
        if len(found) == 1 or not host.ok or host.verdict.roots:
            _show_host(console, host)
    if apart:
        _show_differences(console, apart)
    if html:
        console.print(f"\nThe report is in {html}.", markup=False)


def _overview(console: Console, found: Sequence[Diagnosis]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "host", "failed", "warned", "verdict"):
        table.add_column(name, overflow="fold", justify="right" if name in ("failed", "warned") else "left")
    for host in found:
        statuses = [finding.status for finding in host.findings]
        status = "fail" if "fail" in statuses else "warn" if "warn" in statuses else "ok"
        table.add_row(
            _mark(status),
            host.host,
            str(statuses.count("fail")),
            str(statuses.count("warn")),
            redact(host.verdict.what),
        )
    console.print()
    _put(console, table)


def _say(console: Console, text: Text) -> None:
    """Print a text: on a terminal wrapped between words, elsewhere whole."""
    console.print(text, soft_wrap=not console.is_terminal)


def _put(console: Console, what: Any) -> None:
    """Print a table; where there is no terminal, without the blanks that fill its last column."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as kept:
        console.print(what)
    console.file.write("\n".join(line.rstrip() for line in kept.get().split("\n")))


def _mark(status: str) -> Text:
    from rich.text import Text

    return Text(*MARKS[status])


def _show_host(console: Console, host: Diagnosis) -> None:
    from rich.text import Text

    facts = " · ".join(how.format(host.facts[name]) for name, how in HEADLINE.items() if host.facts.get(name))
    console.print()
    _say(console, Text.assemble((host.host, "bold"), (f"   {facts}" if facts else "", "dim")))
    if host.incident:
        seen = host.incident
        line = f"The last command failed in {seen['phase']} ({seen.get('time', '?')}): {seen.get('what', '')}"
        _say(console, Text(line, "dim"))
    style = "bold red" if not host.ok else "bold yellow" if host.verdict.roots else "bold green"
    _say(console, Text(redact(host.verdict.what), style))
    for root in host.verdict.roots:
        _show_root(console, root)
    if host.idle:
        _show_idle(console, host.idle)
    _show_stages(console, host)


def _show_root(console: Console, root: Root) -> None:
    from rich.padding import Padding
    from rich.text import Text

    finding = root.finding
    mark, style = MARKS[finding.status]
    console.print()
    console.print(
        Text.assemble((f"{mark} ", style), (redact(finding.what), "bold"), (f"  {finding.id}", "dim"))
    )
    rows = [("seen", redact(finding.why)), ("try", redact(finding.hint))]
    for label, text in rows:
        if text:
            _put(console, Padding(_labelled(label, text), (0, 0, 0, 2), expand=False))
    if finding.fix:
        _show_fix(console, finding.fix)
    for other in root.explains:
        _put(
            console,
            Padding(_labelled("so", f"{redact(other.what)}  {other.id}", "dim"), (0, 0, 0, 2), expand=False),
        )


def _labelled(label: str, text: str, style: str = "") -> Any:
    """A text that stays in its column when it is wrapped."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=5)
    grid.add_column(overflow="fold")
    grid.add_row(Text(label, "dim"), Text(text, style))
    return grid


def _show_fix(console: Console, fix: Fix) -> None:
    from rich.text import Text

    console.print(Text.assemble("        ", (f"{PLACES[fix.where]}:", "dim")))
    # Unwrapped, so that it can be copied.
    console.print(Text(f"          {redact(fix.change)}", "cyan"), soft_wrap=True)


def _show_idle(console: Console, lives: Sequence[IdleLife]) -> None:
    from rich.text import Text

    longest = max(max(life.lived for life in lives), 0.1)
    console.print("\nHow long idle connections lived:")
    width = max(len(life.name) for life in lives)
    for life in lives:
        bar = "━" * max(1, round(BAR * life.lived / longest))
        ended = "still alive" if life.end == "ok" else life.end
        style = "green" if life.end == "ok" else "red"
        console.print(
            Text.assemble(f"  {life.name:<{width}}  {life.lived:6.1f} s  ", (f"{bar} {ended}", style)),
            soft_wrap=True,
        )


def _show_stages(console: Console, host: Diagnosis) -> None:
    from rich.table import Table

    from ..diagnosis.finding import STAGES

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "stage", "seconds", "what was looked at"):
        table.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
    for stage in STAGES:
        findings = [finding for finding in host.findings if finding.stage == stage]
        if findings:
            worst = next((s for s in ("fail", "warn", "ok") if any(f.status == s for f in findings)), "skip")
            seconds = f"{host.seconds[stage]:.2f}" if stage in host.seconds else ""
            table.add_row(_mark(worst), stage, seconds, summary(findings))
    console.print()
    _put(console, table)


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
        parts.append(f"{len(by['skip'])} not looked at: {redact('; '.join(reasons))}")
    return " · ".join(parts)


def _show_differences(console: Console, apart: Sequence[Difference]) -> None:
    console.print("\n[bold]Where the hosts differ[/]")
    for difference in apart:
        console.print(f"  {difference.fact}", markup=False)
        for value, hosts in difference.values.items():
            console.print(f"    {redact(value)}: {', '.join(hosts)}", markup=False)
