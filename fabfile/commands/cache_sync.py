"""Bring the cache of one host up to the source, without a release."""

from __future__ import annotations

from ..build.observe import observe
from ..build.release_build import ReleaseBuild
from ..site import state
from ..site.manifest import Manifest, RemoteContents


class CacheSync(ReleaseBuild):
    """The cache of one host, without a release."""

    def check_drift(self) -> Manifest:
        """Compare the cache with its manifest, file by file; what it really holds."""
        known = state.read_manifest(self.host, self.layout.cache_state)
        present = self.host.files.lstat(self.layout.cache)
        held = observe(self.host, self.layout.cache, hashed=True, tolerant=True) if present else Manifest()
        drift = held.difference(known.manifest or Manifest())
        self.result.drift = {
            "missing": [e.path for e in drift.added],
            "altered": [e.path for e in drift.changed],
            "extra": [e.path for e in drift.deleted],
        }
        return held

    def verify(self) -> None:
        """Report drift; change nothing."""
        self.look()
        with self.step("compare"):
            self.check_drift()

    def sync(self, release: str, repair: bool) -> None:
        """Bring the cache up to the source; with `repair`, whatever it holds."""
        self.id = release
        self.take_over()
        if repair:
            with self.step("compare"):
                self._known = RemoteContents(self.check_drift())
        if update := self.upload():
            self.jobs.batch("apply", [self.apply(update)], "Putting the upload in its place")
        self.unlock()
