"""Bring a directory on the host up to a manifest, from a staging directory.

Every file arrives as a whole, by a link or a rename, never by writing in place: a hardlinked copy of the
directory keeps the old content. Each command may be run again after a cut.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence

from ..remote.shell import quote
from .manifest import Difference, Entry, Manifest

ARGUMENTS = 60_000  # bytes of arguments a command; POSIX promises no more than 4096, Linux has 131072 each


def in_place(difference: Difference, base: Manifest, source: str, target: str) -> Iterator[str]:
    """The sh commands that turn `target` (which held `base`, and nobody looks at) into what `difference`
    wants, with files from `source`, which holds them all. For GNU's cp.
    """
    yield f"cd {quote(target)}"
    yield from _removals(difference, base)
    folders = [entry for entry in difference.written if entry.kind == "dir"]
    before = [base.get(entry.path) for entry in folders]
    yield from batches("rm -f --", (entry.path for entry in before if entry and entry.kind != "dir"))
    yield from make_folders(folders)
    yield f"cd {quote(source)}"
    copy = f"cp -a --parents --remove-destination --reflink=auto -t {quote(target)} --"
    yield from batches(copy, (entry.path for entry in difference.uploads))


def commands(difference: Difference, base: Manifest, staging: str, target: str) -> Iterator[str]:
    """The sh commands that turn `target` (which held `base`) into what `difference` wants.

    Order: what vanishes or changes its kind; directories in the place of something else; new directories,
    each moved whole with all that is in it; other files and links; the modes of directories.
    """
    new = {e.path for e in difference.added if e.kind == "dir"}
    yield f"mkdir -p {quote(staging)} {quote(target)} && cd {quote(staging)}"
    yield from make_folders([e for e in difference.added if e.path in new])
    yield f"cd {quote(target)}"
    yield from _removals(difference, base)
    folders = [e for e in difference.written if e.kind == "dir" and e.path not in new]
    # A link in a directory's place would lead what follows out of the tree.
    for words in batches("", (e.path for e in folders)):
        yield f'for d in {words}; do if [ -L "$d" ] || [ ! -d "$d" ]; then rm -rf "$d"; fi; done'
    yield from batches("mkdir -p --", (e.path for e in folders))
    yield from _grafts(sorted(path for path in new if posixpath.dirname(path) not in new), staging)
    single = [e.path for e in difference.uploads if posixpath.dirname(e.path) not in new]
    yield from _placed(single, staging, target)
    yield f"cd {quote(target)}"
    yield from _modes(folders)


def _grafts(paths: Sequence[str], staging: str) -> Iterator[str]:
    if paths:
        yield _GRAFT
    for path in paths:
        yield f"graft {quote(posixpath.join(staging, path))} {quote('./' + path)}"


# Where somebody has made the same directory by hand, what is in it beside ours stays.
_GRAFT = """graft() {
  if [ -d "$2" ] && [ ! -L "$2" ]; then cp -a --remove-destination "$1/." "$2/"
  else rm -rf "$2"; mv "$1" "$2"; fi
}"""


def make_folders(folders: Sequence[Entry]) -> Iterator[str]:
    """Commands that make these directories, with their modes, below the working directory."""
    yield from batches("mkdir -p --", (e.path for e in folders))
    yield from _modes(folders)


def _removals(difference: Difference, base: Manifest) -> Iterator[str]:
    gone = [e.path for e in difference.deleted if e.kind != "dir"]
    replaced = [e.path for e in difference.changed if _stands_in_the_way(base.get(e.path), e)]
    yield from batches("rm -rf --", gone + replaced)
    # A directory goes only when it is empty: what somebody put there by hand is not ours to remove.
    empty = sorted((e.path for e in difference.deleted if e.kind == "dir"), reverse=True)
    for command in batches("rmdir --", empty):
        yield f"{command} 2>/dev/null || :"


def _stands_in_the_way(old: Entry | None, new: Entry) -> bool:
    """Whether a rename could not replace what is there; None: nobody knows what is there."""
    if new.kind == "dir":
        return False  # looked at on the spot, since what is in it may have to stay
    return old is None or old.kind != new.kind or new.kind == "link"


def _placed(paths: Sequence[str], staging: str, target: str) -> Iterator[str]:
    if paths:
        yield f"target={quote(target)}; cd {quote(staging)}"
        yield _PLACE
    yield from batches("place", paths)


# A link takes one process for all of them, a rename one for each; not each file system has links.
_PLACE = """place() {
  cp -lP --parents --remove-destination -t "$target" -- "$@" 2>/dev/null && return
  for path; do mv -f -- "$path" "$target/${path%/*}/" || return; done
}"""


def _modes(folders: Iterable[Entry]) -> Iterator[str]:
    by_mode: dict[int, list[str]] = {}
    for entry in folders:
        by_mode.setdefault(entry.mode, []).append(entry.path)
    for mode, paths in by_mode.items():
        yield from batches(f"chmod {mode:o} --", paths)


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
