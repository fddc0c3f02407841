"""A cache-sync: bring the cache of one host up to the source, without a release."""

from __future__ import annotations

from ..build.observe import observe
from ..build.order import Comparison, Order
from ..build.source.source import Source
from ..build.strategies import CacheStrategy
from ..build.strategies.cache import cache_target
from ..build.strategies.strategy import put_in_place
from ..build.upload import send
from ..on_host import state
from ..on_host.manifest import Manifest, RemoteContents
from ..session.opening import look, take_over
from ..session.session import HostAccess, HostSession, HostView


class CacheSync:
    """A cache-sync as it is asked for. repair: see first what the cache really holds."""

    def __init__(self, source: Source, repair: bool) -> None:
        self.order = Order(source)
        self.repair = repair
        self.strategy = CacheStrategy()

    def verify(self, access: HostAccess) -> None:
        """Report drift on one host; change nothing."""
        view = look(access, self.require)
        with view.step("compare"):
            _check_drift(view)

    def require(self, view: HostView) -> None:
        """Raise HostNotReady where the host has something in the way."""
        self.strategy.require(view)

    def sync(self, session: HostSession) -> None:
        """Bring the cache of one host up to the source."""
        session = take_over(session)
        self.strategy.require(session)
        if self.repair:
            with session.step("compare"):
                known = RemoteContents(_check_drift(session))
        else:
            known = self.strategy.known(session, self.order)
        source = self.order.source
        comparison = Comparison.of(known, self.order.wanted)
        if update := send(session, source, cache_target(session, source), comparison):
            script = put_in_place(update)
            session.jobs.batch("apply", [script], script.what)


def _check_drift(view: HostView) -> Manifest:
    """Compare the cache with its manifest, file by file; what it really holds."""
    known = state.read_manifest(view.host, view.layout.cache_state)
    present = view.host.files.lstat(view.layout.cache)
    like = len(known.manifest or ())
    held = (
        observe(view.host, view.layout.cache, hashed=True, tolerant=True, like=like)
        if present
        else Manifest()
    )
    drift = held.difference(known.manifest or Manifest())
    view.result.drift = {
        "missing": [e.path for e in drift.added],
        "altered": [e.path for e in drift.changed],
        "extra": [e.path for e in drift.deleted],
    }
    return held
