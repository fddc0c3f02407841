"""Whether a release fits on a host: refused before anything is uploaded."""

from __future__ import annotations

from ..errors import HostNotReady
from ..events import size
from ..on_host.manifest import Difference, Manifest
from ..session.session import HostView
from . import copying

MARGIN = 4 << 20  # bytes that must stay free beyond what is known to be needed


def check_room(view: HostView, wanted: Manifest, difference: Difference) -> None:
    """Raise HostNotReady where there is too little space, or too few inodes, for a copy of `wanted` and for
    what is uploaded.
    """
    host, space, root = view.host, view.state.space, view.layout.deploy_to
    if space is None:
        return
    copied = 0 if _copies_for_free(view, wanted, space.free - difference.size - MARGIN) else wanted.size
    need = difference.size + copied + MARGIN
    inodes = len(difference.written) + (len(wanted) if view.settings.copy != "hardlink" else 0)
    if space.free < need:
        raise HostNotReady(
            f"There is not enough room on {host.name}.",
            f"{size(space.free)} are free for {root}, {size(need)} are needed "
            f"({size(difference.size)} to upload, {size(copied)} to copy, {size(MARGIN)} in reserve)",
            "Free some space there, lower keep_releases, or set copy: hardlink.",
        )
    if space.free_inodes is not None and space.free_inodes < inodes:
        raise HostNotReady(
            f"There are not enough inodes on {host.name}.",
            f"{space.free_inodes} are free for {root}, {inodes} are needed",
            "Remove files there, or lower keep_releases.",
        )


def _copies_for_free(view: HostView, wanted: Manifest, left: int) -> bool:
    """Whether the copy takes no room. Only asked of the file system where a full copy would not fit."""
    mode = view.settings.copy
    if mode != "auto" or left >= wanted.size:
        return mode in ("reflink", "hardlink")
    return copying.knows_reflink(view.host, view.layout.own)
