"""The two ways to build a release. They differ in two steps, and in what they know beforehand.

cache:    upload the changes into cache/, then copy the cache to the release.
          What somebody edited in the live release does not carry over.
previous: copy the live release, then upload the changes into the copy. It does.
"""

from __future__ import annotations

from typing import Protocol

from ..remote.host import Host
from ..remote.shell import Script
from ..site import state
from ..site.layout import Layout
from ..site.manifest import Manifest, RemoteContents
from ..site.state import StoredManifest
from .upload import StagedUpload, UploadTarget


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

    def kept(self, name: str) -> StoredManifest | None:
        """What the host keeps about the manifest of "cache" or "live"; None: it is to be read afresh."""

    def place(self, target: str, state: str, base: str = "") -> UploadTarget:
        """A directory to upload into; `state`, `base`: the folders of its manifest, and of the one before."""

    def copy(self, source: str) -> Script:
        """What makes the new release a copy of `source`."""

    def apply(self, update: StagedUpload) -> Script:
        """What puts an upload in its place."""


class Strategy(Protocol):
    """How a release comes about.

    keeps_links: a link that somebody made in the place of a directory of the source stays.
    """

    name: str
    keeps_links: bool

    def known(self, build: Build) -> RemoteContents:
        """What the directory that will be uploaded into holds already."""

    def place(self, build: Build) -> UploadTarget:
        """Where to upload."""

    def parts(self, build: Build, update: StagedUpload) -> list[Script]:
        """What makes the release's directory hold the source, once `update` is staged."""


class CacheStrategy:
    """Upload into the cache, copy the cache."""

    name = "cache"
    keeps_links = False

    def known(self, build: Build) -> RemoteContents:
        """See Strategy.known."""
        if build.from_scratch:
            return RemoteContents()
        return state.known(build.host, build.layout.cache_state, build.kept("cache"), build.wanted)

    def place(self, build: Build) -> UploadTarget:
        """See Strategy.place."""
        return build.place(build.layout.cache, build.layout.cache_state)

    def parts(self, build: Build, update: StagedUpload) -> list[Script]:
        """See Strategy.parts."""
        upload = [build.apply(update)] if update else []
        return [*upload, build.copy(build.layout.cache)]


class PreviousStrategy:
    """Copy the live release, upload into the copy."""

    name = "previous"
    keeps_links = True

    def known(self, build: Build) -> RemoteContents:
        """See Strategy.known."""
        if build.live_directory is None or build.from_scratch:
            return RemoteContents()
        known = RemoteContents()
        if build.live is not None:
            folder = build.layout.state_of(build.live)
            known = state.known(build.host, folder, build.kept("live"), build.wanted)
        if known.manifest is None:
            # Not built by us: keep what it has beside the source, and send all of the source.
            return RemoteContents(Manifest(), frozenset(entry.path for entry in build.wanted))
        return known

    def place(self, build: Build) -> UploadTarget:
        """See Strategy.place."""
        base = build.layout.state_of(build.live) if build.live else ""
        return build.place(build.directory, build.layout.state_of(build.id), base)

    def parts(self, build: Build, update: StagedUpload) -> list[Script]:
        """See Strategy.parts."""
        live = (
            [] if build.from_scratch or build.live_directory is None else [build.copy(build.live_directory)]
        )
        return [*live, build.apply(update)]


STRATEGIES: dict[str, Strategy] = {"cache": CacheStrategy(), "previous": PreviousStrategy()}
