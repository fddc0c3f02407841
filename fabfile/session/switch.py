"""The switch: `current` is replaced by one rename, so no reader ever finds it missing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from ..errors import DENIED, NOT_PERMITTED, CommandFailed, FilesError, HostNotReady
from ..on_host.layout import Layout
from ..remote.host import Host
from ..remote.shell import Script, quote

SWITCHING = "switch"  # the id of the script that does it


def point(
    host: Host, layout: Layout, target: str | None, guard: str = "", first: Sequence[Script] = ()
) -> None:
    """Make `current` point at `target` (as the link shall say it); None: remove the link.

    guard: a script run before all, see Shell.batch. first: what goes before it, in the same round trip.
    Seen from the other side afterwards. Safe to run twice. Raises HostNotReady where the host can't
    rename over a link in one step, FilesError where the other side sees another target.
    """
    if target is None:
        unlink = f"[ ! -L {quote(layout.current)} ] || rm -f {quote(layout.current)}"
        host.shell.batch([*first, Script("Unlinking", unlink)], guard=guard)
        seen = None
    else:
        seen = _replace(host, layout, target, guard, first)
    seen = seen or host.files.readlink(layout.current)
    if seen != target:
        raise FilesError(
            f"{layout.current} is not what was switched to.",
            f"the shell made it point at {target}, the check sees {seen}",
            "See with `ls -l` on the host; another process may change it.",
        )


def _replace(host: Host, layout: Layout, target: str, guard: str, first: Sequence[Script]) -> str | None:
    """The target, if the other side has seen it already."""
    # A name of its own, so that a command of an earlier switch that comes late finds nothing to rename.
    fresh, current = f"{layout.own}/current.{secrets.token_hex(4)}", layout.current
    make = f"rm -f {quote(fresh)} && ln -s {quote(target)} {quote(fresh)}"
    if not host.facts.mv_no_target:
        host.shell.batch([*first, Script("Preparing the switch", make)], guard=guard)
        _rename_over_sftp(host, fresh, current)
        return None
    # -T: `current` is the thing to replace, never a directory to move into.
    switching = Script("Switching", f"{make} && mv -fT {quote(fresh)} {quote(current)}", id=SWITCHING)
    try:
        with host.files.watching([current], lambda seen: seen[current].target == target) as sight:
            host.shell.batch([*first, switching], guard=guard)
            return target if sight() else None
    except CommandFailed as error:
        if error.script == SWITCHING and error.reason in ("", DENIED, NOT_PERMITTED):
            error.hint = f"See who owns {current} on the host, and whether it is a directory."
        raise


def require_rename(host: Host) -> None:
    """Raise HostNotReady where the host can't replace a link in one step, as far as that can be known."""
    if host.facts.mv_no_target:
        return
    host.files.settle()
    if not host.files.uses_sftp:
        raise _unable(host, "SFTP is not used")


def _rename_over_sftp(host: Host, fresh: str, current: str) -> None:
    """Where mv has no -T, SFTP's posix-rename does the same."""
    host.files.settle()
    try:
        host.files.sftp.rename_over(fresh, current)
    except FilesError as error:
        raise _unable(host, f"over SFTP: {error.what} {error.why}") from error


def _unable(host: Host, why: str) -> HostNotReady:
    return HostNotReady(
        f"{host.name} can't replace a link in one step.",
        f"its mv has no -T that replaces a link to a directory, and {why}",
        "Install coreutils or BusyBox there, or have SFTP enabled.",
    )
