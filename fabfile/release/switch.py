"""The switch: `current` is replaced by one rename, so no reader ever finds it missing."""

from __future__ import annotations

import secrets

from ..errors import CommandFailed, FilesError, HostNotReady
from ..remote.host import Host
from ..remote.shell import quote
from .layout import Layout


def point(host: Host, layout: Layout, target: str | None, first: str = "") -> None:
    """Make `current` point at `target` (as the link shall say it); None: remove the link.

    first: commands that go before it, the guard among them.
    Seen from the other side afterwards. Safe to run twice. Raises HostNotReady where the host can't
    rename over a link in one step, FilesError where the other side sees another target.
    """
    if target is None:
        host.shell.run(
            f"{first}[ ! -L {quote(layout.current)} ] || rm -f {quote(layout.current)}", what="Unlinking"
        )
    else:
        _replace(host, layout, target, first)
    seen = host.files.readlink(layout.current)
    if seen != target:
        raise FilesError(
            f"{layout.current} is not what was switched to.",
            f"the shell made it point at {target}, the check sees {seen}",
            "See with `ls -l` on the host; another process may change it.",
        )


def _replace(host: Host, layout: Layout, target: str, first: str) -> None:
    # A name of its own, so that a command of an earlier switch that comes late finds nothing to rename.
    fresh = f"{layout.own}/current.{secrets.token_hex(4)}"
    make = f"{first}rm -f {quote(fresh)} && ln -s {quote(target)} {quote(fresh)}"
    if not host.facts.mv_no_target:
        host.shell.run(make, what="Preparing the switch")
        _rename_over_sftp(host, fresh, layout.current)
        return
    try:
        # -T: `current` is the thing to replace, never a directory to move into.
        host.shell.run(f"{make} && mv -fT {quote(fresh)} {quote(layout.current)}", what="Switching")
    except CommandFailed as error:
        if "Read-only file system" not in error.why:
            error.hint = f"See who owns {layout.current} on the host, and whether it is a directory."
        raise


def _rename_over_sftp(host: Host, fresh: str, current: str) -> None:
    """Where mv has no -T, SFTP's posix-rename does the same."""
    host.files.settle()
    try:
        host.files.sftp.rename_over(fresh, current)
    except FilesError as error:
        raise HostNotReady(
            f"{host.name} can't replace a link in one step.",
            f"its mv knows no -T, and over SFTP: {error.what} {error.why}",
            "Install coreutils or BusyBox there, or have SFTP enabled.",
        ) from error
