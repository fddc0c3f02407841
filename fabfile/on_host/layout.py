"""Where things are under deploy_to. All paths are POSIX strings as the host's shell calls them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

OWN = ".switchover"
RELEASE_ID = re.compile(r"([0-9]{14})(?:-([2-9]|[1-9][0-9]{1,8}))?")
LAST = 10**9 - 1  # of the numbers behind a second


@dataclass(frozen=True)
class Layout:
    """The directory layout of one deployment root."""

    deploy_to: str

    @property
    def current(self) -> str:
        """The one symlink that decides what is live."""
        return f"{self.deploy_to}/current"

    @property
    def releases(self) -> str:
        """All releases, ours and others'."""
        return f"{self.deploy_to}/releases"

    @property
    def shared(self) -> str:
        """What outlives releases."""
        return f"{self.deploy_to}/shared"

    @property
    def cache(self) -> str:
        """Strategy cache: the source as last uploaded."""
        return f"{self.deploy_to}/cache"

    @property
    def own(self) -> str:
        """Our own state."""
        return f"{self.deploy_to}/{OWN}"

    @property
    def locks(self) -> str:
        """One directory for each time the lock was taken, numbered."""
        return f"{self.own}/lock"

    @property
    def cache_state(self) -> str:
        """The cache's manifest and its list of paths in doubt."""
        return f"{self.own}/cache"

    @property
    def incoming(self) -> str:
        """Uploads that are not complete yet, one directory each."""
        return f"{self.own}/incoming"

    @property
    def jobs(self) -> str:
        """Work that goes on without a connection."""
        return f"{self.own}/jobs"

    @property
    def records(self) -> str:
        """One directory a release: record.json and manifest."""
        return f"{self.own}/releases"

    def release(self, release: str) -> str:
        """The directory of one release."""
        return f"{self.releases}/{release}"

    def state_of(self, release: str) -> str:
        """The directory with a release's record and manifest."""
        return f"{self.records}/{release}"

    def release_in(self, target: str | None) -> str | None:
        """The id of the release that a link's target names: releases/ID, or the same folder as an absolute
        path, with or without a slash behind it. None where it leads anywhere else.
        """
        path = (target or "").removesuffix("/").removeprefix(f"{self.deploy_to}/")
        release = path.removeprefix("releases/")
        return release if path != release and RELEASE_ID.fullmatch(release) else None


def sort_key(release: str) -> tuple[str, int]:
    """Orders ids by time: -10 comes after -9, and the bare second before -2."""
    found = RELEASE_ID.fullmatch(release)
    return (found[1], int(found[2] or 1)) if found else ("", 0)


def next_id(taken: set[str], now: datetime | None = None) -> str:
    """A new id, later than every one of `taken` even where clocks disagree: UTC YYYYMMDDHHMMSS[-N]."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d%H%M%S")
    ours = [sort_key(name) for name in taken if RELEASE_ID.fullmatch(name)]
    newest, count = max(ours, default=("", 0))
    if newest < stamp:
        return stamp
    return f"{newest}-{count + 1}" if count < LAST else f"{int(newest) + 1:014}"
