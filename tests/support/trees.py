"""Trees of files: made, read, compared."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support.django import HOME_CACHE

Tree = dict[bytes, tuple[Any, ...]]


def tree(root: Path, without: Iterable[str] = (), *, times: bool = False) -> Tree:
    """Every path below `root` with what it is: kind and mode, a file's content, a link's target.

    without: relative paths to leave out, with what is below them. times: with the mtimes of files, in
    whole seconds. A directory's mode has the owner's rwx, as deployments force it.
    """
    left_out = {os.fsencode(path) for path in without}
    found: Tree = {}

    def walk(folder: bytes, prefix: bytes) -> None:
        with os.scandir(folder) as items:
            for item in items:
                path = prefix + item.name
                if path in left_out:
                    continue
                info = item.stat(follow_symlinks=False)
                mode = stat.S_IMODE(info.st_mode)
                if item.is_symlink():
                    found[path] = ("link", os.readlink(item.path))  # noqa: PTH115  (bytes)
                elif item.is_dir(follow_symlinks=False):
                    found[path] = ("dir", oct((mode & 0o777) | 0o700))
                    walk(item.path, path + b"/")
                elif stat.S_ISREG(info.st_mode):
                    content = Path(os.fsdecode(item.path)).read_bytes()
                    found[path] = ("file", oct(mode), content, int(info.st_mtime) if times else 0)
                else:
                    found[path] = ("special", stat.S_IFMT(info.st_mode))

    walk(os.fsencode(root), b"")
    return found


@functools.lru_cache(maxsize=8)
def fixed_tree(root: Path, times: bool = False) -> Tree:
    """The same for a tree that nobody changes: Django's."""
    return tree(root, times=times)


def _without_special_bits(what: tuple[Any, ...]) -> tuple[Any, ...]:
    """As a path of a source is deployed: setuid, setgid and sticky bits do not travel."""
    return ("file", oct(int(what[1], 8) & 0o777), *what[2:]) if what[0] == "file" else what


def differences(wanted: Tree, found: Tree) -> list[str]:
    """What is not the same, one line a path."""
    lines = [f"missing: {path!r}" for path in wanted.keys() - found.keys()]
    lines += [f"extra: {path!r}" for path in found.keys() - wanted.keys()]
    for path in wanted.keys() & found.keys():
        if wanted[path] != found[path]:
            lines.append(f"differs: {path!r}: {_short(wanted[path])} became {_short(found[path])}")
    return sorted(lines)


def _short(entry: tuple[Any, ...]) -> str:
    return ", ".join(f"{len(x)} bytes {x[:40]!r}" if isinstance(x, bytes) else str(x) for x in entry)


def assert_same(source: Path, release: Path, without: Sequence[str] = (), *, times: bool = False) -> None:
    """The release holds the source, file by file. REVISION and `without` (shared paths) do not count."""
    fixed = HOME_CACHE in source.parents and not without
    wanted = fixed_tree(source, times) if fixed else tree(source, without, times=times)
    wanted = {path: _without_special_bits(what) for path, what in wanted.items()}
    wrong = differences(wanted, tree(release, ("REVISION", *without), times=times))
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:20])


def write(root: Path, files: dict[str, str | bytes | None]) -> Path:
    """Files (content), links ("-> target") and directories (None) below `root`; returns it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        elif isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    root.mkdir(parents=True, exist_ok=True)
    return root
