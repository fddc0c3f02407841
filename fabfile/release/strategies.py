"""The two ways to build a release. They differ in two steps, and in what they know beforehand.

cache:    upload the changes into cache/, then copy the cache to the release.
          What somebody edited in the live release does not carry over.
previous: copy the live release, then upload the changes into the copy. It does.
"""

from __future__ import annotations

from typing import Protocol

from ..remote.host import Host
from . import state
from .layout import Layout
from .manifest import Manifest
from .upload import Known


class Build(Protocol):
    """What a strategy works on: one release on one host. Directories are absolute paths there."""

    host: Host
    layout: Layout
    wanted: Manifest
    from_scratch: bool
    id: str

    @property
    def directory(self) -> str:
        """The new release's directory."""

    @property
    def live(self) -> str | None:
        """The name of the live release."""

    @property
    def live_directory(self) -> str | None:
        """The live release's directory, if there is one."""

    def upload(self, target: str, state: str) -> None:
        """Bring `target` up to the source; `state` is the folder of its manifest."""

    def copy(self, source: str) -> None:
        """Make the new release a copy of `source`."""


class Strategy(Protocol):
    """How a release comes about."""

    name: str

    def known(self, build: Build) -> Known:
        """What the directory that will be uploaded into holds already."""

    def build(self, build: Build) -> None:
        """Make the new release's directory hold the source."""


class CacheStrategy:
    """Upload into the cache, copy the cache."""

    name = "cache"

    def known(self, build: Build) -> Known:
        """See Strategy.known."""
        if build.from_scratch:
            return Known()
        return Known(*state.read_manifest(build.host, build.layout.cache_state))

    def build(self, build: Build) -> None:
        """See Strategy.build."""
        build.upload(build.layout.cache, build.layout.cache_state)
        build.copy(build.layout.cache)


class PreviousStrategy:
    """Copy the live release, upload into the copy."""

    name = "previous"

    def known(self, build: Build) -> Known:
        """See Strategy.known."""
        if build.live is None or build.live_directory is None or build.from_scratch:
            return Known()
        manifest, doubtful = state.read_manifest(build.host, build.layout.state_of(build.live))
        if manifest is None:
            # Not built by us: keep what it has beside the source, and send all of the source.
            return Known(Manifest(), frozenset(entry.path for entry in build.wanted))
        return Known(manifest, doubtful)

    def build(self, build: Build) -> None:
        """See Strategy.build."""
        if build.live_directory is not None and not build.from_scratch:
            build.copy(build.live_directory)
        build.upload(build.directory, build.layout.state_of(build.id))


STRATEGIES: dict[str, Strategy] = {"cache": CacheStrategy(), "previous": PreviousStrategy()}
