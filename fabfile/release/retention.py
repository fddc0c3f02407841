"""Remove releases that are no longer wanted, without ever failing what is live."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CommandFailed
from ..remote.host import Host
from ..remote.shell import quote
from . import records
from .layout import Layout
from .records import Record


def remove(host: Host, layout: Layout, doomed: Iterable[Record], guard: str = "") -> list[str]:
    """Remove these releases and their records; the ids that are gone. What can't be removed is noted.

    A record says "failed" before its tree goes, so half a tree is never offered for a rollback.
    """
    gone = []
    for record in doomed:
        tree = quote(layout.release(record.id))
        mark = records.write(layout, record.become(records.FAILED))
        # Directories only: a hardlinked file is one with its copies in the releases that stay.
        force = f"{{ find {tree} -type d -exec chmod u+rwx {{}} ';' 2>/dev/null; rm -rf {tree}; }}"
        forget = f"rm -rf {quote(layout.state_of(record.id))}"
        script = f"{guard}{mark} && {{ rm -rf {tree} 2>/dev/null || {force}; }} && {forget}"
        try:
            host.shell.run(script, what=f"Removing release {record.id}")
            gone.append(record.id)
        except CommandFailed as error:
            host.note(
                "warn", f"release {record.id} could not be removed whole: {_whose(host, tree) or error.why}"
            )
    return gone


def _whose(host: Host, tree: str) -> str:
    """Whose files stand in the way, with one of them."""
    script = f'find {tree} ! -user "$(id -un)" -exec ls -ld {{}} + 2>/dev/null | head -n 1'
    seen = host.shell.run(script, check=False, what="Looking for the owner").text.split()
    if len(seen) < 9:
        return ""
    return f"{seen[-1]} belongs to {seen[2]}; remove it as {seen[2]} or root: rm -rf {tree}"
