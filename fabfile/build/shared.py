"""What outlives releases: shared directories and files, linked into each release."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..remote.files import PathInfo
from ..remote.shell import quote
from ..site.layout import Layout
from ..site.manifest import Entry
from .apply import ENTER, lean

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
    parent, name = posixpath.split(release)
    lines = [
        f"mkdir -p {quote(layout.shared)}",
        f"cd -P {quote(layout.shared)} >/dev/null && ask >/dev/null; shared=$PWD",
        f"tree_in {quote(parent)} {quote(name)}",
        'release=$tree; way "${release%/*}" "$shared"',
        f"printf '{_WAY} %s\\n' \"../$way\"",
        f"live={quote(what.live)} seeds={quote(what.seeds)} keep={'kept' if keep_links else ''}",
    ]
    for path in what.paths:
        kind = "dir" if path in what.dirs else "file"
        folder, _, base = path.rpartition("/")
        fresh = "fresh" if path in what.fresh else "''"
        up = "../" * path.count("/")
        lines.append(f"share {kind} {fresh} {quote(folder)} {quote(base)} '{up}'")
    helpers = [ENTER, _FILL, _WAY_TO, _SEED, _SHARE]
    if not what.paths:
        helpers, lines = [], [f"echo {_WAY} ../../shared"]
    return "\n".join(["set -e", *helpers, *lines, unserved(layout, what)])


def unserved(layout: Layout, what: Shared) -> str:
    """A script that prints which files of the source are not served: they are not in shared/, or were
    uploaded and not used. By number, since names may hold anything.
    """
    names = [quote(entry.path) for entry in what.files_of_source]
    if not names:
        return ":"
    return f"""
cd {quote(layout.shared)} 2>/dev/null || cd / ; i=0; seeds={quote(what.seeds)}
for p in {" ".join(names)}; do
  if [ ! -e "./$p" ] && [ ! -L "./$p" ]; then echo {_UNSERVED} $i
  elif [ -n "$seeds" ] && [ -f "$seeds/$p" ] && ! cmp -s "$seeds/$p" "./$p"; then echo {_UNSERVED} $i; fi
  i=$((i + 1))
done"""


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


# What $1, which nobody else can get at, has and the directory $2 has not goes there. Both are physical paths.
_FILL = lean(r"""
fill() {
  into "$2" || return
  for s in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    n=${s##*/}
    if [ ! -e "$s" ] && [ ! -L "$s" ]; then continue; fi
    if [ ! -e "./$n" ] && [ ! -L "./$n" ]; then mv -f "$s" . || return
    elif [ -L "$s" ] || [ ! -d "$s" ] || [ -L "./$n" ] || [ ! -d "./$n" ]; then :
    else (fill "$s" "$2/$n") || return; fi
  done
}
""")

# The relative way from the directory $1 to $2, both physical paths.
_WAY_TO = lean(r"""
way() {
  way= up=$1
  until case $2/ in "${up%/}"/*) : ;; *) false ;; esac; do up=${up%/*} way=../$way; done
  rest=${2#"${up%/}"}; way=$way${rest#/}
}
""")

# Puts $base into the working directory, a place in shared/, by one rename: a cut never leaves half of it.
# It is gathered in a directory that only we can enter. What the site has put there before it was shared wins.
_SEED = lean(r"""
seed() {
  place=$PWD old=${live:+$live/$path} new=${seeds:+$seeds/$path}
  if [ -L "$old" ]; then echo "left $path"; old=
  elif [ -z "$fresh" ] || [ ! -e "$old" ]; then old=
  elif [ -d "$old" ]; then [ "$kind" = dir ] || old=
  else [ "$kind" = file ] || old=; fi
  [ -e "$new" ] || [ -L "$new" ] || new=
  if [ -L "./$base" ]; then return; fi
  if [ -e "./$base" ]; then [ -d "./$base" ] && [ -d "$old" ] || return 0; fi
  if [ -z "$old$new" ]; then
    [ "$kind" = file ] || mkdir -m 755 "./$base"; return
  fi
  rm -rf "./$base.seed"; mkdir -m 700 "./$base.seed"; into "$place/$base.seed"
  if [ -n "$old" ]; then
    cp -a "$old" "./$base" || refuse "what the live release has at $path can't be copied to shared/"
    echo "kept $path"
    if [ -d "./$base" ] && [ -d "$new" ]; then ( fill "$new" "$PWD/$base" ); fi
  else cp -a "$new" "./$base"; rm -rf "$new"; fi
  into "$place"
  if [ -e "./$base" ]; then ( fill "$place/$base.seed/$base" "$place/$base" )
  else mv -f "./$base.seed/$base" .; fi
  rm -rf "./$base.seed"
}
""")

_SHARE = lean(r"""
refuse() { echo "$1" >&2; exit 1; }
share() {
  kind=$1 fresh=$2 folder=$3 base=$4 up=$5 path=$3${3:+/}$4
  if [ ! -e "$shared/$path" ] && [ ! -L "$shared/$path" ] || [ -n "$fresh" ]; then
    tree=$shared links=kept
    enter "$folder" || refuse "$shared/$folder leads through a link, or a file: make $shared/$path yourself"
    seed
  fi
  if [ "$kind" = dir ] && [ -e "$shared/$path" ] && [ ! -d "$shared/$path" ]; then
    refuse "$shared/$path is to be a shared directory, but it is a file"
  elif [ "$kind" = file ] && [ -d "$shared/$path" ]; then
    refuse "$shared/$path is to be a shared file, but it is a directory"
  fi
  tree=$release links=$keep
  enter "$folder" || refuse "$folder is a link in the live release: what is below it can't be shared"
  rm -rf "./$base"; ln -sn "$up../$way/$path" "./$base"
  # Where it leads is followed now: a link that dangles is a release without its data.
  [ ! -d "./$base" ] || [ "$kind" = dir ] || refuse "$path leads to a directory"
  cd -P "./$up../$way${folder:+/$folder}" >/dev/null && ask >/dev/null && here=$PWD
  cd -P "$shared${folder:+/$folder}" >/dev/null && ask >/dev/null
  [ "$here" = "$PWD" ] || refuse "the link $path of the release does not lead to $shared/$path"
  [ "$kind" = file ] || [ -d "./$base" ] || refuse "$shared/$path is not there"
}
""")
