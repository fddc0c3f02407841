"""Bring a tree on the host up to a manifest, from a staging directory or another tree.

Every file arrives as a whole, by a link or a rename, never by writing in place: a hardlinked copy of the
tree keeps the old content. Each command may be run again after a cut.

Nothing outside the tree is written, removed or given another mode, whatever links stand in it, and whoever
plants them while we work. Each directory is entered by itself and seen to be where it must be; only names of
one component are used in it, with commands that do not follow a link that has such a name. Where every
directory on the way is a real one that nobody else can write to, nobody can lead us astray, so one process
does for all of them what would take one each.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

from ..remote.shell import quote
from ..site.manifest import Difference, Entry, Manifest


def lean(script: str) -> str:
    """Without what only a reader needs: it travels with each deployment. Not for here-documents."""
    return re.sub(r"^(\s*#.*\n|[ ]+)", "", script, flags=re.MULTILINE)


# So many directories are done one by one: as quick as to find out whether all are plain ones.
FEW = 8
ARGUMENTS = 60_000  # bytes of arguments a command; POSIX promises no more than 4096, Linux has 131072 each

# ask: sets $PWD to where we are, as the system says it: bash makes it out of the name it was given, which may
# have led elsewhere meanwhile. mksh takes the link in /proc for a directory.
# into: the directory whose physical path is $1.
# tree_in: the tree $2 in the directory $1, made where it is missing.
# enter: the directory $1 below $tree, one name at a time. Whatever stands in a directory's place goes and the
# directory is made, but for a link where $links says that it stays: the status is 2 then.
ENTER = lean(r"""
ask() { cd -P /proc/self/cwd; }
(cd / && ask && [ "$PWD" = / ]) >/dev/null 2>&1 ||
  case ${KSH_VERSION-} in ?*) ask() { PWD=$(pwd -P); } ;; *) ask() { cd -P .; } ;; esac
into() { { cd -P "$1" && ask && [ "$PWD" = "$1" ]; } >/dev/null 2>&1 || { cd /; return 1; }; }
tree_in() {
  cd -P "$1" >/dev/null && ask >/dev/null || exit
  tree=${PWD%/}/$2
  [ -e "./$2" ] || [ -L "./$2" ] || mkdir -m 700 "./$2" || exit
  into "$tree" || { echo "$tree is not a directory, but a link, or it can't be entered" >&2; exit 1; }
}
enter() {
  into "$tree${1:+/$1}" && return
  into "$tree" || return
  rest=$1/
  while [ -n "$rest" ]; do
    name=${rest%%/*} rest=${rest#*/} at=$PWD
    into "$at/$name" || { into "$at" && directory "./$name" && into "$at/$name"; } || return
  done
}
directory() {
  if [ -L "$1" ] && [ -n "$links" ]; then return 2; fi
  if [ -L "$1" ] || [ ! -d "$1" ]; then rm -f "$1" && mkdir -m 755 "$1"
  else [ -x "$1" ] || chmod u+rwx "$1"; fi
}
""")

# A phase is a function of lines `at DIRECTORY ./NAME …`. $list says what these do: "paths" and "directories"
# print them, else the command $each gets the names, in that directory.
_AT = lean(r"""
at() {
  d=$1; shift
  case $list in
    paths) for n; do printf '%s\0' "./$d${d:+/}${n#./}"; done ;;
    directories)
      while [ -n "$d" ]; do
        if [ -e "./$d" ] || [ -L "./$d" ]; then printf '%s\0' "./$d"; fi
        case $d in */*) d=${d%/*} ;; *) d= ;; esac
      done ;;
    *) $each "$@" ;;
  esac
}
# $1: the phase; $2: what does it directory by directory; $3: where the rest, one command, does it for all.
phase() {
  does=$1 each=$2 where=$3; shift 3
  into "$tree" || return
  if [ -n "$plain" ] && [ $# != 0 ]; then
    (list=paths; cd "$where" && $does | xargs -0 -r "$@") 2>/dev/null && return
  fi
  list=; $does
}
removed() {
  into "$tree${d:+/$d}" || return 0
  rm -f "$@" 2>/dev/null && return
  # A directory there was made by hand.
  for n; do if [ -L "$n" ] || [ ! -d "$n" ]; then rm -f "$n" || return; fi; done
}
# Only when it is empty: what somebody put there by hand is not ours to remove.
dropped() {
  into "$tree${d:+/$d}" || return 0
  rmdir "$@" 2>/dev/null && return
  for n; do [ -n "$links" ] || [ ! -L "$n" ] || rm -f "$n" || return; done
}
made() {
  enter "$d" || { [ $? = 2 ]; return; }
  for n; do directory "$n" || [ $? = 2 ] || return; done
}
moded() {
  for n; do ! into "$tree/${d:+$d/}${n#./}" || chmod "$mode" . || return; done
}
placed() {
  enter "$d" || { [ $? = 2 ]; return; }
  # Nothing of one component is followed by what comes then; a directory would be moved into.
  for n; do [ -L "$n" ] || [ ! -d "$n" ] || rm -rf "$n" || return; done
  for n; do set -- "$@" "$from/${d:+$d/}${n#./}"; shift; done
  put "$@"
}
""")

# One process for all, where links can be made; not each file system has them.
_LINKED = 'put() { cp -lP --remove-destination "$@" . 2>/dev/null || mv -f "$@" .; }'
_COPIED = 'put() { cp -a --remove-destination --reflink=auto "$@" .; }'

# Whole directories that are new. Where somebody has made the same by hand, what is in it beside ours stays.
_GRAFT = lean(r"""
grafted() {
  enter "$d" || { [ $? = 2 ]; return; }
  for n; do
    s=$from/${d:+$d/}${n#./}
    [ -d "$s" ] && [ ! -L "$s" ] || continue
    if [ -L "$n" ] && [ -n "$links" ]; then continue; fi
    if [ -L "$n" ] || [ ! -d "$n" ]; then rm -f "$n"; else
      (spare "$PWD/${n#./}" "$s") && rm -rf "$n" || return
    fi
    mv -f "$s" . || return
  done
}
""")

# What the directory $1 has and $2 has not goes from there to here; both are physical paths, and nobody else
# can get at $2. A link in $1 that $links says to keep wins over a directory.
SPARE = lean(r"""
spare() {
  into "$1" || return
  for n in * .[!.]* ..?*; do
    if [ ! -e "./$n" ] && [ ! -L "./$n" ]; then continue; fi
    if [ ! -e "$2/$n" ] && [ ! -L "$2/$n" ]; then mv -f "./$n" "$2/" || return
    elif [ -L "$2/$n" ] || [ ! -d "$2/$n" ]; then :
    elif [ -L "./$n" ]; then [ -z "$links" ] || { rm -rf "$2/$n" && mv -f "./$n" "$2/"; } || return
    elif [ -d "./$n" ]; then (spare "$1/$n" "$2/$n") || return
    fi
  done
}
""")

# Whether each directory on the way is a real one, and ours alone to write to; or real and in a tree that
# nobody else can enter. An account that may write to one could put a link in the place of what is in it.
_PLAIN = lean(r"""
plain() {
  into "$tree" || return
  { printf '.\0'; list=directories; phases; list=paths; modes; } 2>/dev/null |
    xargs -0 -r stat -c %A:%u 2>&1 | awk -v me="$(id -u)" '
      NR == 1 && $0 == "drwx------:" me { alone = 1 }
      !/^d/ || (!alone && !($0 ~ "^d....-..-.:" me "$")) { odd = 1 }
      END { exit odd || !NR }'
}
plain=; exec 8< . && [ -d /proc/self/fd/8/. ] && plain && plain=yes
""")


def commands(
    difference: Difference,
    base: Manifest,
    source: str,
    target: str,
    *,
    staged: bool = True,
    keep_links: bool = False,
    quick: bool = True,
) -> Iterator[str]:
    """The sh commands that turn the tree `target` (which held `base`) into what `difference` wants. ENTER is
    to go before them.

    source:     the directory with what is to be written.
    staged:     that is a staging directory, which is used up; else it is only read.
    keep_links: a link in the place of a directory stays, and nothing is written below it; else it goes.
    quick:      the host has what it takes to do many directories with one process (GNU's cp, xargs, stat).

    Order: what vanishes or changes its kind; new directories, moved whole with all that is in them where they
    are staged; other files and links; the modes of directories.
    """
    phases = _Phases(difference, base, staged)
    if staged:
        yield f"cd {quote(source)}"
        yield from make_folders(phases.grafts)
    yield f"from={quote(source)} links={'kept' if keep_links else ''}"
    yield f"{_AT}{_LINKED if staged else _COPIED}{_GRAFT + SPARE if phases.grafts else ''}"
    yield from phases.functions()
    yield f"tree_in {quote(posixpath.dirname(target))} {quote(posixpath.basename(target))}"
    yield _PLAIN if quick and phases.directories > FEW else "plain="
    # Through the handle: the tree's own path may be led elsewhere while we work.
    copy = "-lP" if staged else "-a --reflink=auto"
    at_once = {
        "removing": "removed . rm -f",
        "dropping": "dropped . rmdir",
        "making": "made . mkdir -m 755",
        "grafting": "grafted .",
        "placing": f'placed "$from" cp {copy} --parents --remove-destination -t /proc/self/fd/8',
        **{f"mode_{mode:o}": f"moded . chmod {mode:o}" for mode in phases.modes},
    }
    for name, how in at_once.items():
        if phases.lists[name]:
            yield f"mode={name.removeprefix('mode_')}; phase {name} {how}"


class _Phases:
    """What is to be done in which directory."""

    def __init__(self, difference: Difference, base: Manifest, staged: bool) -> None:
        changed = [(base.get(e.path), e) for e in difference.changed]
        folders = [e for e in difference.written if e.kind == "dir"]
        new = {e.path for e in difference.added if e.kind == "dir"} if staged else set()
        self.grafts = [e for e in folders if e.path in new]
        rest = [e for e in folders if e.path not in new]
        gone = [e.path for e in difference.deleted if e.kind != "dir"]
        # A link or a file of the source's own that becomes a directory.
        gone += [e.path for old, e in changed if old and old.kind != "dir" and e.kind == "dir"]
        # Nobody knows what those are that the base does not have.
        emptied = [e.path for e in difference.deleted if e.kind == "dir" or base.get(e.path) is None]
        emptied += [e.path for old, e in changed if _is_dir(old) and e.kind != "dir"]
        self.modes: dict[int, list[str]] = {}
        for entry in rest:
            self.modes.setdefault(entry.mode, []).append(entry.path)
        self.lists: dict[str, list[str]] = {
            "removing": gone,
            "dropping": sorted(emptied, key=lambda path: -path.count("/")),
            "making": sorted(
                (e.path for e in rest if not _is_dir(base.get(e.path))), key=lambda path: path.count("/")
            ),
            "grafting": sorted(path for path in new if posixpath.dirname(path) not in new),
            "placing": [e.path for e in difference.uploads if posixpath.dirname(e.path) not in new],
            **{f"mode_{mode:o}": paths for mode, paths in self.modes.items()},
        }

    @property
    def directories(self) -> int:
        """In how many directories there is something to do, once for each phase."""
        return sum(len({posixpath.dirname(path) for path in paths}) for paths in self.lists.values())

    def functions(self) -> Iterator[str]:
        """The phases as functions of sh, and two that call them."""
        for name, paths in self.lists.items():
            yield f"{name}() {{"
            yield ":"
            yield from grouped(paths)
            yield "}"
        yield f"phases() {{ {'; '.join(self.lists)}; }}"
        yield f"modes() {{ {'; '.join([':', *(f'mode_{mode:o}' for mode in self.modes)])}; }}"


def _is_dir(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == "dir"


def grouped(paths: Iterable[str]) -> Iterator[str]:
    """`at DIRECTORY ./NAME …` for these paths, in their order."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        yield from (f"{line} || return" for line in batches(f"at {quote(folder)}", names))


def make_folders(folders: Sequence[Entry]) -> Iterator[str]:
    """Commands that make these directories, with their modes, below the working directory, which nobody else
    can enter, and which holds no link on the way.
    """
    yield from batches("mkdir -p", (e.path for e in folders))
    by_mode: dict[int, list[str]] = {}
    for entry in folders:
        by_mode.setdefault(entry.mode, []).append(entry.path)
    for mode, paths in by_mode.items():
        yield from batches(f"chmod {mode:o}", paths)


def batches(command: str, paths: Iterable[str]) -> Iterator[str]:
    """`command` with as many quoted paths each time as surely fit."""
    words: list[str] = []
    length = 0
    for path in paths:
        word = quote(f"./{path}")
        if words and length + len(word) > ARGUMENTS:
            yield " ".join([command, *words])
            words, length = [], 0
        words.append(word)
        length += len(word) + 1
    if words:
        yield " ".join([command, *words])
