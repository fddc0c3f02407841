"""What a person reads at the end: what is live now, or what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import Stopped, SwitchoverError
from ..events import count, size
from ..results import UNKNOWN
from .live import Live
from .screen import Screen

if TYPE_CHECKING:
    from ..results import HostResult, Outcome

__all__ = ["Live", "alike", "hosts_named", "show_deployment", "show_error"]

NAMED = 5  # hosts named in one line


K = TypeVar("K")


def alike(found: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    """The hosts of which the same is to be said, in their order."""
    groups: dict[K, list[str]] = {}
    for what, host in found:
        groups.setdefault(what, []).append(host)
    return groups


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
        screen.beside(("✗ ", "bold red"), text=(f"{label}{error.what}", "bold red"))
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
    for sentence in outcome.served:
        screen.beside("· ", text=sentence)
    if outcome.exit_code:
        screen.say((f"  ({_meaning(outcome)}; exit code {outcome.exit_code})", "dim"))
    if any(result.release for result in outcome.hosts):
        screen.say((f"✗ {_standing(outcome.hosts)}", "bold red"))


def _standing(results: Sequence[HostResult]) -> str:
    """`20261125033011 is not live; 20261124120000 is live on web1, web2`"""
    there: dict[str | None, list[str]] = {}
    for result in results:
        there.setdefault(result.live, []).append(result.host)
    sentences = [
        f"{new} is not live" for new in sorted({r.release for r in results if r.release} - there.keys())
    ]
    for live, names in there.items():
        what = "it is not known what" if live == UNKNOWN else live or "nothing"
        sentences.append(f"{what} is live on {hosts_named(names)}")
    return "; ".join(sentences)


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
    """A row a host, and in the last line what is live now."""
    if not outcome.ok:  # each step has sentences how far it came
        return
    screen = Screen()
    cells = [_cells(result) for result in outcome.hosts]
    columns = [name for name in COLUMNS if any(row.get(name) for row in cells)]
    if len({result.release for result in outcome.hosts}) == 1:  # the last line has it
        columns.remove("live now")
    screen.blank()
    screen.table(columns, [[row.get(name) or "-" for name in columns] for row in cells], right=NUMBERS)
    ways = alike((_way(result), result.host) for result in outcome.hosts if result.transfer)
    for way, names in ways.items():
        screen.say((way if len(ways) == 1 else f"{hosts_named(names)}: {way}", "dim"))
    _say_live(screen, outcome.hosts)


COLUMNS = ("host", "live now", "before", "uploaded", "deleted", "reconnections", "seconds")
NUMBERS = ("uploaded", "deleted", "reconnections", "seconds")


def _cells(result: HostResult) -> dict[str, str]:
    """What stands in which column; nothing was uploaded by a rollback."""
    cells = {
        "host": result.host,
        "live now": result.release or "",
        "before": result.previous or "",
        "reconnections": str(result.reconnects or ""),
        "seconds": f"{_seconds(result):.1f}",
    }
    if result.transfer:
        cells["uploaded"] = f"{count(result.files_uploaded, 'file')}, {size(result.bytes_uploaded)}"
        cells["deleted"] = str(result.files_deleted)
    return cells


def _way(result: HostResult) -> str:
    words = (f"strategy: {result.strategy}", f"transfer: {result.transfer}", f"copy: {result.copy}")
    return " · ".join(word for word in words if not word.endswith(": "))


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
