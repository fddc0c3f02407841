"""Remove releases that are no longer wanted, without ever failing what is live."""

from __future__ import annotations

from ..remote.host import Host
from ..remote.shell import Result, Script, failed, quote
from . import records
from .layout import Layout
from .records import Record


def removing(layout: Layout, record: Record) -> Script:
    """What removes a release and its record. It may fail: see why_not().

    The record says "failed" before its tree goes, so half a tree is never offered for a rollback.
    """
    tree = quote(layout.release(record.id))
    mark = records.write(layout, record.become(records.FAILED))
    # Directories only: a hardlinked file is one with its copies in the releases that stay.
    force = f"{{ find {tree} -type d -exec chmod u+rwx {{}} ';' 2>/dev/null; rm -rf {tree}; }}"
    forget = f"rm -rf {quote(layout.state_of(record.id))}"
    script = f"{{ {mark} && {{ rm -rf {tree} 2>/dev/null || {force}; }} && {forget}; }} 2>&1"
    return Script(f"Removing release {record.id}", script, needed=False)


def why_not(host: Host, layout: Layout, record: Record, said: Result) -> str:
    """Why a release could not be removed completely."""
    return _whose(host, quote(layout.release(record.id))) or failed("Removing", said).why


def _whose(host: Host, tree: str) -> str:
    """Whose files stand in the way, with one of them."""
    script = f'find {tree} ! -user "$(id -un)" -exec ls -ld {{}} + 2>/dev/null | head -n 1'
    seen = host.shell.run(script, check=False, what="Looking for the owner").text.split()
    if len(seen) < 9:
        return ""
    return f"{seen[-1]} belongs to {seen[2]}; remove it as {seen[2]} or root: rm -rf {tree}"
