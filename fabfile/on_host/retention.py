"""Remove releases that are no longer wanted, without ever failing what is live."""

from __future__ import annotations

from collections.abc import Sequence

from ..events import count
from ..remote.host import Host
from ..remote.script_files import Scripts
from ..remote.shell import Result, Script, failed, quote
from . import records
from .layout import Layout
from .records import Record

SHOWN = 10  # releases that are told of

_scripts = Scripts(__package__)


def removing(layout: Layout, doomed: Sequence[Record]) -> Script:
    """What removes releases and their records. It may fail: see left().

    A record says "failed" before its tree goes, so half a tree is never offered for a rollback.
    """
    marked = [record.become(records.FAILED) for record in doomed if record.state != records.FAILED]
    remove = _scripts(
        "remove_releases",
        *(record.id for record in doomed),
        releases=layout.releases,
        records=layout.records,
    )
    script = f"{records.write(layout, *marked)} || exit\n{remove}"
    return Script(f"Removing {count(len(doomed), 'release')}", script, needed=False)


def left(host: Host, layout: Layout, doomed: Sequence[Record], said: Result) -> dict[str, str]:
    """The releases that could not be removed completely, by id, and why. At most SHOWN are asked about."""
    if said.status == 0:
        return {}
    names = [line.removeprefix("left ") for line in said.text.splitlines() if line.startswith("left ")]
    ids = [record.id for record in doomed if record.id in names] or [record.id for record in doomed]
    why = failed("Removing", said).why
    return {id: _whose(host, quote(layout.release(id))) or why for id in ids[:SHOWN]}


def _whose(host: Host, tree: str) -> str:
    """Whose files stand in the way, with one of them."""
    script = f'find {tree} ! -user "$(id -un)" -exec ls -ld {{}} + 2>/dev/null | head -n 1'
    seen = host.shell.run(script, check=False, what="Looking for the owner").text.split()
    if len(seen) < 9:
        return ""
    return f"{seen[-1]} belongs to {seen[2]}; remove it as {seen[2]} or root: rm -rf {tree}"
