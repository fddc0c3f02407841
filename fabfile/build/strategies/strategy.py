"""What each strategy has to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...errors import CommandFailed, HostNotReady, SwitchoverError
from ...on_host.manifest import RemoteContents
from ...on_host.records import Record
from ...remote.shell import Script
from ...session.session import HostView
from .. import copying
from ..order import Comparison, Order, Plan
from ..upload import StagedUpload, UploadTarget
from ..verify import Expected

COPYING = "copy"  # the id of the script that copies the release


class Strategy(Protocol):
    """How a release comes about on a host."""

    name: str
    keeps_links: bool  # a link that somebody has put in the place of a directory of the source stays

    def require(self, view: HostView) -> None:
        """Raise HostNotReady where the host has something in the way."""

    def known(self, view: HostView, order: Order, *, afresh: bool = False) -> RemoteContents:
        """What the directory holds already that is uploaded into. afresh: the state is out of date."""

    def target(self, plan: Plan, *, again: bool = False) -> UploadTarget:
        """Where to upload. again: nothing that waits there is of use."""

    def resumed(self, plan: Plan, comparison: Comparison) -> tuple[frozenset[str], bool]:
        """What an interrupted deployment of this release may have written into it, and whether it had brought
        everything there.
        """

    def parts(self, plan: Plan, update: StagedUpload, *, again: bool = False) -> list[Script]:
        """What makes the release's directory hold the source, once `update` is staged."""

    def explain(self, plan: Plan, error: CommandFailed) -> SwitchoverError:
        """The error of one of these, with what to try about it."""

    def finishing(self, plan: Plan) -> Sequence[str]:
        """Commands that keep the manifest with the release, where that is not done yet."""

    def expected(self, plan: Plan, sent: frozenset[str]) -> Expected:
        """What the release is to hold, and how that is looked at. sent: what this deployment has written."""

    def proven(self, record: Record, manifest: str, seal: str) -> Record:
        """The record of a release that was found to be whole, with what a later deployment makes use of."""

    def damage(self, plan: Plan, *, hashed: bool) -> list[str]:
        """What is wrong in what the release was copied from. hashed: files are read, too."""

    def mark_untrusted(self, plan: Plan, paths: Sequence[str]) -> Sequence[str]:
        """Commands that have the next deployment send these again, whatever becomes of this one."""


def copy(plan: Plan, source: str, recycling: str = "") -> Script:
    """What makes the release a copy of the directory `source`. recycling: see copying.recycle."""
    session = plan.session
    script = copying.script(
        session.host,
        source,
        plan.directory,
        session.settings.copy,
        plan.layout.own,
        plan.wanted,
        recycling,
    )
    return Script(f"Copying {source} to {plan.directory}", script, id=COPYING)


def put_in_place(update: StagedUpload) -> Script:
    """What puts an upload in its place."""
    return Script("Putting the upload in its place", update.script)


def unfit_copy(plan: Plan, error: CommandFailed) -> HostNotReady | None:
    """The error for a copy that failed the way in which it was asked for; None where no way was."""
    mode = plan.session.settings.copy
    if mode not in ("reflink", "hardlink"):
        return None
    return HostNotReady(
        f"copy: {mode} does not work on {plan.session.host.name}.",
        error.why,
        "Set copy: auto, which falls back to a full copy.",
        reason=error.reason,
        status=error.status,
        output=error.output,
    )
