"""Upload into the cache, copy the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import DENIED, CommandFailed, HostNotReady, SwitchoverError
from ...on_host import records, state
from ...on_host.manifest import RemoteContents
from ...on_host.records import Record
from ...on_host.state import StoredManifest
from ...remote.host import replace_file
from ...remote.shell import Script, quote
from ...session.session import HostView
from .. import copying, proof
from ..observe import observe
from ..order import Comparison, Order, Plan
from ..source.source import Source
from ..upload import StagedUpload, UploadTarget, mark_untrusted
from ..verify import Expected, differing
from .strategy import COPYING, copy, put_in_place, unfit_copy


class CacheStrategy:
    """See Strategy. Somebody may have changed the cache, so what is wrong is looked for there, too."""

    name = "cache"
    keeps_links = False

    def require(self, view: HostView) -> None:
        """The cache must be a directory of ours to fill and to empty."""
        if view.state.cache_kind in ("dir", "none"):
            return
        cache = quote(view.layout.cache)
        raise HostNotReady(
            f"{view.layout.cache} is a {view.state.cache_kind}, not a directory.",
            "Switchover writes and deletes in it, and it can't know whose folder a link leads to.",
            f"See on the host what it is, then remove it:\nls -ld {cache}\nrm {cache}",
        )

    def known(self, view: HostView, order: Order, *, afresh: bool = False) -> RemoteContents:
        """By the manifest that the cache has."""
        if order.from_scratch:
            return RemoteContents()
        kept = None if afresh else view.state.manifests.get("cache", StoredManifest())
        return state.known(view.host, view.layout.cache_state, kept, order.wanted)

    def target(self, plan: Plan, *, again: bool = False) -> UploadTarget:
        """The cache."""
        return cache_target(plan.session, plan.order.source, again=again)

    def resumed(self, plan: Plan, comparison: Comparison) -> tuple[frozenset[str], bool]:
        """Nothing: an interrupted deployment has written into the cache, and a release is read back whole."""
        return frozenset(), False

    def parts(self, plan: Plan, update: StagedUpload, *, again: bool = False) -> list[Script]:
        """The upload goes into the cache, the cache into the release."""
        upload = [put_in_place(update)] if update else []
        return [*upload, copy(plan, plan.layout.cache, "" if again else self._recycling(plan))]

    def explain(self, plan: Plan, error: CommandFailed) -> SwitchoverError:
        """A cache that can't be read can be made anew."""
        if error.script != COPYING:
            return error
        if unfit := unfit_copy(plan, error):
            return unfit
        if error.reason == DENIED:
            error.hint = (
                "See on the host whether this account may read the cache and write to releases/ (ls -ld). "
                "`--from-scratch` rebuilds the cache."
            )
        return error

    def finishing(self, plan: Plan) -> Sequence[str]:
        """The release has the cache's manifest."""
        kept = plan.state
        return [
            f"rm -rf {quote(kept + '/manifest.new')}",
            f"cp {quote(plan.layout.cache_state + '/manifest')} {quote(kept + '/manifest.new')}",
            replace_file(f"{kept}/manifest.new", f"{kept}/manifest"),
        ]

    def expected(self, plan: Plan, sent: frozenset[str]) -> Expected:
        """All files are read where that is asked for, or where another deployment may have written them."""
        everything = plan.session.settings.verify == "full" or plan.resumed
        files = [entry for entry in plan.wanted if entry.kind == "file"]
        chosen = tuple(entry for entry in files if everything or entry.path in sent)
        return Expected(
            plan.directory,
            plan.wanted,
            tuple(plan.record.shared),
            sent,
            chosen,
            len(chosen) == len(files),
            self.keeps_links,
        )

    def proven(self, record: Record, manifest: str, seal: str) -> Record:
        """It can be recycled."""
        return replace(record, manifest=manifest, seal=seal)

    def damage(self, plan: Plan, *, hashed: bool) -> list[str]:
        """What in the cache is not as the source wants it."""
        found = observe(
            plan.session.host, plan.layout.cache, hashed=hashed, tolerant=True, like=len(plan.wanted)
        )
        return differing(found, plan.wanted, hashed=hashed)

    def mark_untrusted(self, plan: Plan, paths: Sequence[str]) -> Sequence[str]:
        """Written down beside the cache's manifest."""
        return [mark_untrusted(plan.layout.cache_state, paths)]

    def _recycling(self, plan: Plan) -> str:
        """See copying.recycle; "" where there is nothing to recycle."""
        old = self._old_release(plan)
        if old is None:
            return ""
        return copying.recycle(
            plan.layout, old, plan.wanted, plan.layout.cache, plan.directory, plan.record.shared
        )

    def _old_release(self, plan: Plan) -> copying.Old | None:
        """The oldest release that retention would remove, if it can become the new one instead."""
        host, settings, found = plan.session.host, plan.session.settings, plan.session.state
        able = proof.possible(host) and host.facts.mv_no_target
        if settings.copy not in ("auto", "recycle") or not able or plan.order.from_scratch or plan.resumed:
            return None
        known = {**found.records, plan.id: plan.record.become(records.LIVE)}
        doomed = records.to_remove(known, settings.keep_releases, plan.id, found.live)
        good = [r for r in doomed if r.state == records.GOOD and r.id in found.directories]
        if not good or not good[0].seal:
            return None
        stored = StoredManifest(good[0].manifest)
        contents = state.known(host, plan.layout.state_of(good[0].id), stored, plan.wanted)
        return copying.Old(good[0], contents.manifest) if contents.manifest else None


def cache_target(view: HostView, source: Source, *, again: bool = False) -> UploadTarget:
    """The cache, to be brought up to `source`. again: see Strategy.target."""
    layout = view.layout
    return UploadTarget.of(view, source, layout.cache, layout.cache_state, again=again)
