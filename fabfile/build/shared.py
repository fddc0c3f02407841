"""What outlives releases: shared directories and files, linked into each release."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..on_host.layout import Layout
from ..on_host.manifest import Entry
from ..remote.files import PathInfo
from ..remote.script_files import Scripts, quote

_scripts = Scripts(__package__)
_KEPT, _WAY, _UNSERVED, _LEFT = "kept", "way", "unserved", "left"


@dataclass(frozen=True)
class Shared:
    """What is to be shared, and what it may begin with.

    live:  the directory of the live release ("" where there is none).
    fresh: the paths that are not shared there; what the site has put into these goes along.
    seeds: the directory of what was uploaded for them ("" where nothing was).
    files_of_source: what the source has at or below a shared path, directories left out.
    """

    dirs: Sequence[str]
    files: Sequence[str]
    live: str = ""
    fresh: Collection[str] = ()
    seeds: str = ""
    files_of_source: Sequence[Entry] = ()

    @property
    def paths(self) -> list[str]:
        """All of them."""
        return [*self.dirs, *self.files]


@dataclass(frozen=True)
class Linked:
    """What link() has found.

    way:      from a release's directory to shared/. kept: the paths that were copied from the live release.
    unserved: what the source has, and the site does not serve.
    left:     links of the live release whose content was left where it is.
    """

    way: str = ""
    kept: list[str] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def target(path: str, way: str) -> str:
    """What the link at `path` in a release says: relative, so that a chrooted view resolves it too."""
    return "../" * path.count("/") + f"{way}/{path}"


def unlink(paths: Iterable[str]) -> str:
    """Commands that take the links out of $tree (see apply.ENTER): nothing is written through them."""
    lines = [f"unshare {quote(posixpath.dirname(p))} {quote('./' + posixpath.basename(p))}" for p in paths]
    return "\n".join([_UNSHARE, *lines])


_UNSHARE = 'unshare() { into "$tree${1:+/$1}" || return 0; [ ! -L "$2" ] || rm -f "$2"; }'


def link(layout: Layout, release: str, what: Shared, *, keep_links: bool) -> str:
    """A script that links every shared path into the release, and follows each link to where it leads.

    What isn't in shared/ yet is seeded once: from the live release, if it is not shared there, and from the
    uploaded seeds; else a directory is made (a file is not: its link dangles until somebody puts it there).
    """
    if not what.paths:
        return f"set -e\necho {_WAY} ../../shared\n{unserved(layout, what)}"
    words = []
    for path in what.paths:
        kind = "dir" if path in what.dirs else "file"
        folder, _, base = path.rpartition("/")
        words += [kind, "fresh" if path in what.fresh else "", folder, base, "../" * path.count("/")]
    parent, name = posixpath.split(release)
    linking = _scripts(
        "link_shared",
        *words,
        shared=layout.shared,
        parent=parent,
        name=name,
        live=what.live,
        seeds=what.seeds,
        keep="kept" if keep_links else "",
    )
    return f"{linking}\n{unserved(layout, what)}"


def unserved(layout: Layout, what: Shared) -> str:
    """A script that prints which files of the source are not served."""
    names = [entry.path for entry in what.files_of_source]
    return _scripts("unserved", *names, shared=layout.shared, seeds=what.seeds) if names else ":"


def parse(said: str, what: Shared) -> Linked:
    """What link() and unserved() print, among what programs may have warned of. Raises ValueError."""
    found: dict[str, list[str]] = {word: [] for word in (_KEPT, _WAY, _UNSERVED, _LEFT)}
    for line in said.split("\n"):
        word, _, rest = line.partition(" ")
        if word in found:
            found[word].append(rest)
    ways, files = found[_WAY], what.files_of_source
    if any(not re.fullmatch(r"(\.\./)+[^\0]*", way) for way in ways):
        raise ValueError(f"{ways} is no way from a release to shared/")
    numbers = [int(number) for number in found[_UNSERVED] if number.isascii() and number.isdecimal()]
    return Linked(
        ways[-1] if ways else "",
        [path for path in found[_KEPT] if path in what.paths],
        [files[number].path for number in numbers if number < len(files)],
        [path for path in found[_LEFT] if path in what.paths],
    )


def paths_to_check(layout: Layout, release: str, dirs: Sequence[str], files: Sequence[str]) -> list[str]:
    """What wrong() and dangling() need to be seen."""
    return [
        *(f"{release}/{path}" for path in (*dirs, *files)),
        *(f"{layout.shared}/{path}" for path in files),
    ]


def dangling(seen: Mapping[str, PathInfo], layout: Layout, files: Iterable[str]) -> list[str]:
    """The shared files that aren't there yet."""
    return [path for path in files if seen[f"{layout.shared}/{path}"].stat is None]


def wrong(seen: Mapping[str, PathInfo], release: str, paths: Iterable[str], way: str) -> list[str]:
    """What is wrong with the links."""
    found = {path: seen[f"{release}/{path}"].target for path in paths}
    return [
        f"{path} -> {says}, expected {target(path, way)}"
        for path, says in found.items()
        if says != target(path, way)
    ]
