"""Copy the live release, upload into the copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import CommandFailed, SwitchoverError
from ...on_host import state
from ...on_host.manifest import Manifest, RemoteContents
from ...on_host.records import Record
from ...on_host.state import StoredManifest
from ...remote.shell import Script, quote
from ...session.session import HostView
from .. import shared
from ..apply import ENTER
from ..order import Comparison, Order, Plan, links_of_live
from ..upload import StagedUpload, UploadTarget
from ..verify import Expected
from .strategy import COPYING, copy, put_in_place, unfit_copy


class PreviousStrategy:
    """See Strategy."""

    name = "previous"
    keeps_links = True

    def require(self, view: HostView) -> None:
        """Nothing can be in the way."""

    def known(self, view: HostView, order: Order, *, afresh: bool = False) -> RemoteContents:
        """By the manifest that the live release has."""
        live = view.state.live
        if view.live_directory is None or order.from_scratch:
            return RemoteContents()
        known = RemoteContents()
        if live is not None:
            kept = None if afresh else view.state.manifests.get("live", StoredManifest())
            known = state.known(view.host, view.layout.state_of(live), kept, order.wanted)
        if known.manifest is None:
            # Not built by us: keep what it has beside the source, and send all of the source.
            return RemoteContents(Manifest(), frozenset(entry.path for entry in order.wanted))
        return known

    def target(self, plan: Plan, *, again: bool = False) -> UploadTarget:
        """The release, which holds what the live one does."""
        live = plan.session.state.live
        return UploadTarget.of(
            plan.session,
            plan.order.source,
            plan.directory,
            plan.state,
            base=plan.layout.state_of(live) if live else "",
            keep_links=True,
            again=again,
        )

    def resumed(self, plan: Plan, comparison: Comparison) -> tuple[frozenset[str], bool]:
        """What an interrupted run of this deployment has sent is ours to answer for too; its manifest says
        whether that was all.
        """
        if not plan.resumed:
            return frozenset(), False
        own = state.read_manifest(plan.session.host, plan.state)
        complete = own.manifest is not None and not own.difference(plan.wanted)
        return frozenset(entry.path for entry in comparison.difference.written), complete

    def parts(self, plan: Plan, update: StagedUpload, *, again: bool = False) -> list[Script]:
        """The live release is copied, the upload goes into the copy."""
        live = plan.session.live_directory
        if plan.order.from_scratch or live is None:
            return [put_in_place(update)]
        return [self._copy(plan, live), put_in_place(update)]

    def explain(self, plan: Plan, error: CommandFailed) -> SwitchoverError:
        """See Strategy.explain."""
        if error.script == COPYING:
            return unfit_copy(plan, error) or error
        return error

    def finishing(self, plan: Plan) -> Sequence[str]:
        """The upload has brought the manifest along."""
        return []

    def expected(self, plan: Plan, sent: frozenset[str]) -> Expected:
        """Only what was sent is read: the rest may have been edited, and stays so."""
        read = tuple(entry for entry in plan.wanted if entry.kind == "file" and entry.path in sent)
        links = tuple(plan.record.shared)
        return Expected(plan.directory, plan.wanted, links, sent, read, False, self.keeps_links)

    def proven(self, record: Record, manifest: str, seal: str) -> Record:
        """What it holds is not all in its manifest, so it can't be recycled."""
        return record

    def damage(self, plan: Plan, *, hashed: bool) -> list[str]:
        """Whatever the live release holds is right."""
        return []

    def mark_untrusted(self, plan: Plan, paths: Sequence[str]) -> Sequence[str]:
        """The next deployment does not build upon this release."""
        return []

    def _copy(self, plan: Plan, live: str) -> Script:
        copied = copy(plan, live)
        # What is told of the new release is about another attempt; and nothing is written through links.
        kept, releases = quote(plan.state), quote(plan.layout.releases)
        links = sorted({*plan.record.shared, *links_of_live(plan.session)})
        unlink = f"{ENTER}tree_in {releases} {plan.id}\n{shared.unlink(links)}"
        script = f"rm -rf {kept}/manifest {kept}/touched\n(\n{copied.script}\n) || exit\n{unlink}"
        return replace(copied, script=script)
