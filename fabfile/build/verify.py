"""Whether the release on the host is what was deployed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from ..events import count, shorten_list
from ..on_host import state
from ..on_host.layout import Layout
from ..on_host.manifest import Entry, Manifest
from ..remote.host import Host
from ..remote.script_files import Scripts
from ..remote.shell import Result, Script
from ..session.session import HostView
from ..session.steps import Steps
from . import proof
from .observe import digests, observe

_scripts = Scripts(__package__)


class Expected(NamedTuple):
    """What a release is to hold, and how closely it is looked at.

    shared:      the paths that are links to shared/.
    sent:        the paths that this deployment has written.
    read_back:   the files whose content is read. everything: they are all files that there are.
    keeps_links: the release began as a copy of the live one: what somebody has changed there carries over.
    """

    directory: str
    wanted: Manifest
    shared: tuple[str, ...]
    sent: frozenset[str]
    read_back: tuple[Entry, ...]
    everything: bool
    keeps_links: bool

    @property
    def not_ours(self) -> list[str]:
        """The paths of a release that are not the source's: links, the directories they needed, REVISION."""
        made = {p for path in self.shared for p in _parents(path) if self.wanted.get(p) is None}
        return [*self.shared, *sorted(made), *self.own]

    @property
    def own(self) -> list[str]:
        """The files that we add to what is deployed."""
        return [] if self.wanted.get("REVISION") else ["REVISION"]


def proving(host: Host, expected: Expected) -> Script:
    """What prints the digests of a release, where the host can compute them."""
    what = "Looking at the release"
    if not proof.possible(host):
        return Script(what, ":")
    all_but = expected.own if expected.everything else None
    digests_of = proof.digests(
        shape=proof.shape(expected.directory, expected.not_ours),
        content=proof.content(host, expected.directory, expected.read_back, all_but),
        seal=proof.seal(expected.directory),
    )
    return Script(what, digests_of)


def judge(steps: Steps, expected: Expected, said: Result, shape: str) -> tuple[list[str], str]:
    """What is wrong, by the digests that proving() has printed, and the release's seal where nothing is.

    Where they are not as expected, everything is looked at. shape: see proof.expected_shape.
    """
    found = proof.parse(said.text)
    if found.get("shape") == shape and found.get("content") == proof.expected_content(expected.read_back):
        return [], found.get("seal", "")
    with steps.step("verify") as tell:
        tell(count(len(expected.wanted), "path"))
        return _wrong(steps, expected), ""


def missing(view: HostView, release: str) -> list[str]:
    """The paths that are missing in a release that was whole. That its manifest is not there is only told."""
    host, layout = view.host, view.layout
    if _seems_whole(host, layout, release):
        return []
    manifest = state.read_manifest(host, layout.state_of(release)).manifest
    if manifest is None:
        host.note("warn", f"what release {release} has to hold is not known: it can't be verified")
    found = observe(host, layout.release(release), like=len(manifest or ()))
    return [entry.path for entry in manifest or () if found.get(entry.path) is None]


def _seems_whole(host: Host, layout: Layout, release: str) -> bool:
    """Whether no path of the manifest is missing, as far as the host can tell (odd names it can't)."""
    script = _scripts(
        "seems_whole", manifest=f"{layout.state_of(release)}/manifest", release=layout.release(release)
    )
    return host.shell.run(script, what="Looking at the release", check=False).status == 0


def differing(found: Manifest, wanted: Manifest, *, hashed: bool) -> list[str]:
    """The paths that are not found as they are wanted. hashed: the content of files counts, too."""
    return [
        e.path
        for e in wanted
        if not _matches(found.get(e.path), e)
        or (hashed and e.kind == "file" and found.entries[e.path].content != e.content)
    ]


def _wrong(steps: Steps, expected: Expected) -> list[str]:
    """The paths of the release that are not as they should be."""
    host, wanted = steps.host, expected.wanted
    found = observe(host, expected.directory, without=tuple(expected.not_ours), like=len(wanted))
    wrong = set(differing(found, wanted, hashed=False))
    extra = [e.path for e in found if wanted.get(e.path) is None]
    behind: set[str] = set()
    if expected.keeps_links:
        behind = _behind_links(steps, expected, found)
        wrong -= behind
        # What was edited by hand in the live release carries over; what is missing there does not.
        edited = sorted(path for path in wrong if path not in expected.sent and found.get(path))
        wrong -= set(edited)
        if edited:
            host.note(
                "info", f"{count(len(edited), 'path')} edited by hand carry over: {shorten_list(edited)}"
            )
    elif extra:
        host.note(
            "warn",
            f"stray files in the cache, {count(len(extra), 'path')} that the source does not have: "
            f"{shorten_list(extra)}",
        )
    return sorted({*wrong, *_altered(host, expected, wrong | behind)})


def _behind_links(steps: Steps, expected: Expected, found: Manifest) -> set[str]:
    """What of the source lies at or below a link that somebody has put in a directory's place: nothing was
    written through it.
    """
    dirs = {e.path for e in expected.wanted if e.kind == "dir"}
    links = {e.path for e in found if e.kind == "link" and e.path in dirs}
    behind = {e.path for e in expected.wanted if e.path in links or not links.isdisjoint(_parents(e.path))}
    if behind:
        named = ", ".join(f"{path} -> {found.entries[path].content}" for path in sorted(links))
        files = sorted(path for path in behind if path not in dirs)
        steps.result.unserved = sorted({*steps.result.unserved, *files})
        steps.host.note(
            "warn",
            f"the live release has links where the source has directories ({named}): they stay, and what "
            f"the source has below them is not served: {shorten_list(files)}",
        )
    return behind


def _altered(host: Host, expected: Expected, passed_over: set[str]) -> list[str]:
    """The files whose content, read on the host, is not what was sent."""
    files = [entry for entry in expected.read_back if entry.path not in passed_over]
    if not files:
        return []
    if not host.has("sha256sum"):
        host.note("warn", "the host has no sha256sum: only sizes and modes are verified")
        return []
    found = digests(host, expected.directory, [e.path for e in files])
    return [e.path for e in files if found.get(e.path) != e.content]


def _matches(found: Entry | None, wanted: Entry) -> bool:
    return found is not None and found.same_shape(wanted)


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
