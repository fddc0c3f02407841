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
from collections.abc import Iterable, Iterator, Sequence

from ..on_host.manifest import Difference, Entry, Manifest
from ..remote.script_files import Scripts, quote

# So many directories are done one by one: as quick as to find out whether all are plain ones.
FEW = 8
ARGUMENTS = 60_000  # bytes of arguments a command; POSIX promises no more than 4096, Linux has 131072 each

_scripts = Scripts(__package__)
ENTER = f"{_scripts.functions('enter')}\n"  # how directories are entered; see there


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
    links = "kept" if keep_links else ""
    yield _scripts("apply", source=source, staged="staged" if staged else "", links=links)
    if phases.grafts:
        yield _scripts.functions("graft")
    yield from phases.functions()
    yield f"tree_in {quote(posixpath.dirname(target))} {quote(posixpath.basename(target))}"
    yield "look_at_the_way" if quick and phases.directories > FEW else "plain="
    # Through the handle: the tree's own path may be led elsewhere while we work.
    copy = "-lP" if staged else "-a --reflink=auto"
    at_once = {
        "removing": "removed . rm -f",
        "dropping": "dropped . rmdir",
        "making": "made . mkdir -m 755",
        "grafting": "grafted .",
        "placing": f'placed "$source" cp {copy} --parents --remove-destination -t /proc/self/fd/8',
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
