"""What a person reads at the end: what is live now, what went wrong, and the lists of each command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import Stopped, SwitchoverError
from ..events import count, size
from ..results import UNKNOWN
from .live import Live
from .screen import Piece, Screen

if TYPE_CHECKING:
    from ..fleet import Holding, Listing
    from ..results import HostResult, Outcome

__all__ = [
    "Live", "show_deployment", "show_error", "show_locks", "show_plan", "show_releases",
    "show_rollback_plan", "show_sync",
]  # fmt: skip

NAMED = 5  # hosts named in one line


def hosts_named(names: Sequence[str]) -> str:
    """`web1`, `web1, web2`, `20 hosts`."""
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} hosts"


# -- what went wrong -----------------------------------------------------------------------------------


def show_error(outcome: Outcome, to_stderr: bool = True) -> None:
    """What happened, why, what to try, once for each cause; those that only waited, in one line."""
    screen = Screen(to_stderr)
    several = len(outcome.hosts) > 1
    groups, waited = _causes(outcome)
    for error, names in groups:
        screen.blank()
        label = f"{hosts_named(names)}: " if names and several else ""
        screen.say((f"✗ {label}", "bold red"), (error.what, "bold red"))
        if len(names) > NAMED:
            screen.labelled("on:", ", ".join(names))
        if error.why:
            screen.labelled("why:", error.why)
        if error.hint:
            screen.labelled("try:", error.hint, commands=True)
    if waited:
        screen.blank()
        failed = [name for _, names in groups for name in names]
        why = f", because {hosts_named(failed)} failed" if failed else ""
        screen.say((f"· {hosts_named(waited)} did not go on{why}", "dim"))
    if outcome.exit_code:
        screen.say((f"  ({_meaning(outcome)}; exit code {outcome.exit_code})", "dim"))
    if any(result.release for result in outcome.hosts):
        screen.say((f"✗ {_standing(outcome.hosts)}", "bold red"))


def _standing(results: Sequence[HostResult]) -> str:
    """`20261125033011 is not live; 20261124120000 is live on web1, web2`"""
    there: dict[str | None, list[str]] = {}
    for result in results:
        there.setdefault(result.live, []).append(result.host)
    told = [f"{new} is not live" for new in sorted({r.release for r in results if r.release} - there.keys())]
    for live, names in there.items():
        what = "it is not known what" if live == UNKNOWN else live or "nothing"
        told.append(f"{what} is live on {hosts_named(names)}")
    return "; ".join(told)


def _causes(outcome: Outcome) -> tuple[list[tuple[SwitchoverError, list[str]]], list[str]]:
    """Each cause with its hosts, the first to fail first; and the hosts that only waited for the others."""
    groups: dict[tuple[str, ...], tuple[SwitchoverError, list[str]]] = {}
    waited = []
    failed = [result for result in outcome.hosts if result.error]
    own = [result for result in failed if not isinstance(result.error, Stopped)]
    if outcome.error and not any(outcome.error is result.error for result in failed):
        groups[()] = (outcome.error, [])
    for result in sorted(own, key=lambda result: result.error is not outcome.error):
        assert result.error is not None
        groups.setdefault(_kind(result), (result.error, []))[1].append(result.host)
    for result in failed:
        if isinstance(result.error, Stopped):
            if own or result.error is not outcome.error:
                waited.append(result.host)
            else:
                groups.setdefault(("stopped",), (result.error, []))[1].append(result.host)
    return list(groups.values()), waited


def _kind(result: HostResult) -> tuple[str, ...]:
    """Equal for errors that differ in the host's name alone."""
    error = result.error
    assert error is not None
    name = re.compile(rf"(?<![\w.-])(?:[\w.-]+@)?{re.escape(result.host)}(?::\d+)?(?![\w-])")
    return tuple(name.sub("HOST", text) for text in (error.what, error.why))


def _meaning(outcome: Outcome) -> str:
    if outcome.exit_code == 1 and not outcome.hosts:
        return "failed; nothing was changed"
    return {
        1: "failed, what was live stays live everywhere",
        2: "nothing was contacted",
        3: "failed after the switch and switched back everywhere",
        4: "the hosts differ and need a person",
        5: "locked by someone else",
    }.get(outcome.exit_code, "failed")


# -- what is live --------------------------------------------------------------------------------------


def show_deployment(outcome: Outcome) -> None:
    """A row a host, the seconds of each step, and in the last line what is live now."""
    if not outcome.ok:  # each step has told how far it came
        return
    screen = Screen()
    rows: list[list[Piece]] = []
    for result in outcome.hosts:
        how = " · ".join(part for part in (result.strategy, result.transfer, result.copy) if part)
        uploaded = f"{count(result.files_uploaded, 'file')}, {size(result.bytes_uploaded)}"
        rows.append([
            result.host, result.release or "-", result.previous or "-", uploaded, str(result.files_deleted),
            how, f"{_seconds(result):.1f}",
        ])  # fmt: skip
    screen.blank()
    screen.table(("host", "live now", "before", "uploaded", "deleted", "how", "seconds"), rows)
    for result in outcome.hosts:
        phases = " · ".join(f"{name} {seconds:.2f}" for name, seconds in result.phases.items())
        again = f" · {count(result.reconnects, 'reconnection')}" if result.reconnects else ""
        screen.say((f"{result.host}: {phases}{again}", "dim"))
    _say_live(screen, outcome.hosts)


def _say_live(screen: Screen, results: Sequence[HostResult]) -> None:
    """`✓ 20261125033011 is live on 20 hosts (3.1 s, slowest web7)`"""
    if not results:
        return
    slowest = max(results, key=_seconds)
    named = f", slowest {slowest.host}" if len(results) > 1 else ""
    releases = sorted({result.release or "-" for result in results})
    for release in releases:
        there = [result.host for result in results if (result.release or "-") == release]
        took = f" ({_seconds(slowest):.1f} s{named})" if release == releases[-1] else ""
        screen.say((f"✓ {release} is live on {hosts_named(there)}{took}", "bold green"))


def _seconds(result: HostResult) -> float:
    return sum(result.phases.values())


def show_plan(outcome: Outcome) -> None:
    """What a deployment would do, path by path."""
    screen = Screen()
    for result in outcome.hosts:
        plan = result.plan
        if plan is None:
            continue
        screen.blank()
        screen.say((result.host, "bold"))
        for mark, style, entries in (
            ("+", "green", plan.added),
            ("~", "yellow", plan.changed),
            ("-", "red", plan.deleted),
        ):
            for entry in entries:
                screen.say((f"{mark} {entry.path}", style), indent=2)
        screen.say(
            f"{len(plan.added)} to add, {len(plan.changed)} to change, {len(plan.deleted)} to delete, "
            f"{size(plan.size)} to upload; nothing was changed",
            indent=2,
        )


def show_rollback_plan(outcome: Outcome) -> None:
    """Which release would be live."""
    screen = Screen()
    for result in outcome.hosts:
        if result.release:
            screen.say(f"{result.host}: {result.previous} → {result.release}; nothing was changed")


def show_sync(outcome: Outcome) -> None:
    """What was uploaded, and any drift."""
    screen = Screen()
    for result in outcome.hosts:
        if result.drift is not None:
            counts = ", ".join(f"{len(paths)} {name}" for name, paths in result.drift.items())
            screen.blank()
            screen.say(f"{result.host}: {counts}")
            for name, paths in result.drift.items():
                for path in paths:
                    screen.say(f"{name:<8} {path}", indent=2)
        if result.transfer:
            uploaded = f"{count(result.files_uploaded, 'file')} uploaded ({size(result.bytes_uploaded)})"
            screen.say(f"{result.host}: {uploaded}, {result.files_deleted} deleted")


def show_releases(listings: list[Listing]) -> None:
    """A table for each host."""
    screen = Screen()
    for listing in listings:
        if listing.error:
            continue
        screen.blank()
        screen.say((listing.host, "bold"))
        if not listing.releases:
            current = f"; current is {listing.current}, not ours" if listing.current else ""
            screen.say(f"no releases{current}", indent=2)
            continue
        rows: list[list[Piece]] = []
        for record in listing.releases:
            revision = record.revision if record.revision.startswith("tree-") else record.revision[:12]
            state = f"{record.state}, passed over" if record.left else record.state
            rows.append([
                "→" if record.id == listing.current else "", record.id, state, revision,
                record.created, record.deployed_by, size(record.bytes),
            ])  # fmt: skip
        screen.table(("", "release", "state", "revision", "created", "by", "size"), rows)


def show_locks(holdings: list[Holding]) -> None:
    """A line a host."""
    screen = Screen()
    for holding in holdings:
        if holding.error:
            continue
        if not holding.held:
            text = "not locked"
        else:
            text = f"locked by {holding.owner or 'an unknown owner'}"
            text += "; the lock is broken now" if holding.broken else "; --force breaks it"
        screen.say(f"{holding.host}: {text}")
