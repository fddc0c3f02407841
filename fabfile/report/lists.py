"""What the commands list: plans, drift, releases, locks. Hosts of which the same is true stand together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..events import count, size
from ..on_host.records import BAD, FAILED, LIVE
from .console import alike, hosts_named
from .screen import Piece, Screen

if TYPE_CHECKING:
    from ..fleet import Holding, Listing
    from ..on_host.records import Record
    from ..results import HostResult, Outcome
    from ..typed import Typed

REVISION = 12  # characters of a revision that are shown
STYLES = {LIVE: "bold green", FAILED: "red", BAD: "red"}


def show_plan(outcome: Outcome) -> None:
    """What a deployment would do, path by path."""
    screen = Screen()
    for lines, names in alike((_planned(result), result.host) for result in outcome.hosts).items():
        if not lines:
            continue
        _heading(screen, names)
        for text, style in lines:
            screen.say((text, style), indent=2)


def _planned(result: HostResult) -> tuple[tuple[str, str], ...]:
    """The lines, each with its style."""
    plan = result.plan
    if plan is None:
        return ()
    marked = (("+", "green", plan.added), ("~", "yellow", plan.changed), ("-", "red", plan.deleted))
    lines = [(f"{mark} {entry.path}", style) for mark, style, entries in marked for entry in entries]
    added, changed, deleted = len(plan.added), len(plan.changed), len(plan.deleted)
    lines.append((
        f"{added} to add, {changed} to change, {deleted} to delete, {size(plan.size)} to upload; "
        "nothing was changed", "",
    ))  # fmt: skip
    return tuple(lines)


def show_rollback_plan(outcome: Outcome) -> None:
    """Which release would be live."""
    screen = Screen()
    ways = alike(((r.previous, r.release), r.host) for r in outcome.hosts if r.release)
    for (before, after), names in ways.items():
        screen.say(f"{hosts_named(names)}: {before} → {after}; nothing was changed")


def show_sync(outcome: Outcome) -> None:
    """What was uploaded, and any drift."""
    screen = Screen()
    for lines, names in alike((_synced(result), result.host) for result in outcome.hosts).items():
        for number, line in enumerate(lines):
            screen.say(line if number else f"{hosts_named(names)}: {line}", indent=2 if number else 0)


def _synced(result: HostResult) -> tuple[str, ...]:
    lines = []
    if result.drift is not None:
        lines.append(", ".join(f"{len(paths)} {name}" for name, paths in result.drift.items()))
        lines += [f"{name:<8} {path}" for name, paths in result.drift.items() for path in paths]
    if result.transfer:
        uploaded = f"{count(result.files_uploaded, 'file')} uploaded ({size(result.bytes_uploaded)})"
        lines.append(f"{uploaded}, {result.files_deleted} deleted")
    return tuple(lines)


def show_releases(listings: Sequence[Listing]) -> None:
    """A table for all hosts that have the same releases."""
    screen = Screen()
    seen = [listing for listing in listings if not listing.error]
    for (current, rows), names in alike((_listed(listing), listing.host) for listing in seen).items():
        _heading(screen, names)
        if rows:
            columns = ("release", "state", "revision", "created (UTC)", "by", "size")
            screen.table(columns, [[*row] for row in rows], right=("size",))
        else:
            screen.say(f"no releases{f'; current is {current}, not ours' if current else ''}", indent=2)


def _listed(listing: Listing) -> tuple[str | None, tuple[tuple[Piece, ...], ...]]:
    return listing.current, tuple(_row(record) for record in listing.releases)


def _row(record: Record) -> tuple[Piece, ...]:
    state = f"{record.state}, passed over" if record.left else record.state
    return (
        record.id, (state, STYLES.get(record.state, "")), record.revision[:REVISION],
        _moment(record.created), record.deployed_by, size(record.bytes),
    )  # fmt: skip


def _moment(created: str) -> str:
    """`2026-11-25 08:03`; what is no time stays as it is."""
    try:
        return f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d %H:%M}"
    except ValueError:
        return created


def show_locks(holdings: Sequence[Holding], typed: Typed) -> None:
    """Who holds which lock, and what breaks those that are held. typed: how we were called."""
    screen = Screen()
    seen = [holding for holding in holdings if not holding.error]
    for text, names in alike((_held(holding), holding.host) for holding in seen).items():
        screen.beside(f"{hosts_named(names)}: ", text=text)
    if held := [holding.address for holding in seen if holding.held and not holding.broken]:
        screen.say("This breaks the lock; whoever holds it stops before the switch:")
        screen.say(typed.line(",".join(held), None, "unlock", "--force"), indent=2, whole=True)


def _held(holding: Holding) -> str:
    if not holding.held:
        return "not locked"
    broken = "; the lock is broken now" if holding.broken else ""
    return f"locked by {holding.owner or 'an unknown owner'}{broken}"


def _heading(screen: Screen, names: Sequence[str]) -> None:
    screen.blank()
    screen.beside((f"{hosts_named(names)}", "bold"), text=f": {', '.join(names)}" if len(names) > 5 else "")
