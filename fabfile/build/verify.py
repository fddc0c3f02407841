"""Whether the release on the host is what was deployed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..events import count, shorten_list
from ..remote.shell import Result, Script
from ..site.manifest import Entry, Manifest
from . import proof
from .observe import digests, observe

if TYPE_CHECKING:
    from .release_build import ReleaseBuild


class Verification:
    """What is looked at in one release on one host, and what is wrong with it."""

    def __init__(self, build: ReleaseBuild) -> None:
        self.build = build

    def proving(self) -> Script:
        if not proof.possible(self.build.host):
            return Script("Looking at the release", ":")
        files, everything = self._files_to_read()
        own = [] if self.build.wanted.get("REVISION") else ["REVISION"]
        return Script(
            "Looking at the release",
            proof.digests(
                shape=proof.shape(self.build.directory, self._not_ours()),
                content=proof.content(
                    self.build.host, self.build.directory, files, own if everything else None
                ),
                seal=proof.seal(self.build.directory),
            ),
        )

    def judge(self, said: Result, expected: str, digest: str) -> list[str]:
        """What is wrong, by the digests; where they are not as expected, by looking at everything."""
        files, _ = self._files_to_read()
        found = proof.parse(said.text)
        if found.get("shape") == expected and found.get("content") == proof.expected_content(files):
            if self.build.record and self.build.strategy.name == "cache":
                self.build.record = replace(self.build.record, manifest=digest, seal=found.get("seal", ""))
            return []
        with self.build.step("verify") as tell:
            tell(count(len(self.build.wanted), "path"))
            return self._wrong()

    def _not_ours(self) -> list[str]:
        """The paths of a release that are not the source's: links, the directories they needed, REVISION."""
        made = {p for path in self.build.shared for p in _parents(path) if self.build.wanted.get(p) is None}
        return [
            *self.build.shared,
            *sorted(made),
            *([] if self.build.wanted.get("REVISION") else ["REVISION"]),
        ]

    def _wrong(self) -> list[str]:
        """The paths of the release that are not as they should be."""
        build = self.build
        found = observe(build.host, build.directory, without=tuple(self._not_ours()))
        wrong = {e.path for e in build.wanted if not _matches(found.get(e.path), e)}
        extra = [e.path for e in found if build.wanted.get(e.path) is None]
        behind: set[str] = set()
        if build.strategy.keeps_links:
            behind = self._behind_links(found)
            wrong -= behind
            # What was edited by hand in the live release carries over; what is missing there does not.
            edited = sorted(path for path in wrong if path not in build.sent and found.get(path))
            wrong -= set(edited)
            if edited:
                build.host.note(
                    "info", f"{count(len(edited), 'path')} edited by hand carry over: {shorten_list(edited)}"
                )
        elif extra:
            build.host.note(
                "warn", f"{count(len(extra), 'path')} in the cache not from the source: {shorten_list(extra)}"
            )
        return sorted({*wrong, *self._altered(wrong | behind)})

    def _behind_links(self, found: Manifest) -> set[str]:
        """What of the source lies at or below a link that somebody has put in a directory's place: nothing
        was written through it.
        """
        build = self.build
        dirs = {e.path for e in build.wanted if e.kind == "dir"}
        links = {e.path for e in found if e.kind == "link" and e.path in dirs}
        behind = {e.path for e in build.wanted if e.path in links or not links.isdisjoint(_parents(e.path))}
        if behind:
            named = ", ".join(f"{path} -> {found.entries[path].content}" for path in sorted(links))
            files = sorted(path for path in behind if path not in dirs)
            build.result.unserved = sorted({*build.result.unserved, *files})
            build.host.note(
                "warn",
                f"the live release has links where the source has directories ({named}): they stay, and what "
                f"the source has below them is not served: {shorten_list(files)}",
            )
        return behind

    def damage(self, *, hashed: bool) -> list[str]:
        """What in the cache is not as the source wants it. hashed: files are read, too."""
        build = self.build
        found = observe(build.host, build.layout.cache, hashed=hashed, tolerant=True)
        return [
            e.path
            for e in build.wanted
            if not _matches(found.get(e.path), e)
            or (hashed and e.kind == "file" and found.entries[e.path].content != e.content)
        ]

    def _altered(self, passed_over: set[str]) -> list[str]:
        """The files whose content, read on the host, is not what was sent."""
        files = [entry for entry in self._files_to_read()[0] if entry.path not in passed_over]
        if not files:
            return []
        if not self.build.host.has("sha256sum"):
            self.build.host.note("warn", "the host has no sha256sum: only sizes and modes are verified")
            return []
        found = digests(self.build.host, self.build.directory, [e.path for e in files])
        return [e.path for e in files if found.get(e.path) != e.content]

    def _files_to_read(self) -> tuple[list[Entry], bool]:
        """The files whose content is read back, and whether these are all there are."""
        cache = self.build.strategy.name == "cache"
        everything = cache and (self.build.settings.verify == "full" or self.build.resumed)
        files = [e for e in self.build.wanted if e.kind == "file"]
        chosen = [e for e in files if everything or e.path in self.build.sent]
        return chosen, cache and len(chosen) == len(files)


def _matches(found: Entry | None, wanted: Entry) -> bool:
    return found is not None and found.same_shape(wanted)


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
