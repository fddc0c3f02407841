"""See what a directory on the host really holds, as a manifest."""

from __future__ import annotations

import re
import secrets
import stat
from collections.abc import Iterable

from ..remote.host import Host
from ..remote.shell import quote
from .apply import batches
from .manifest import Entry, Manifest


def observe(host: Host, directory: str, *, hashed: bool = False, without: tuple[str, ...] = ()) -> Manifest:
    """List everything below `directory`, in one command.

    hashed:  read all files for their sha256 too.
    without: relative paths to leave out, with what is below them.
    Links have their target. A directory that isn't there holds nothing. Raises CommandFailed when
    something can't be read.
    """
    mark = secrets.token_hex(8)
    text = host.shell.run(_script(directory, mark, hashed, without), what=f"Listing {directory}").text
    if not text:
        return Manifest()
    listed, linked, sums = text.split(f"{mark}=\n")
    targets = dict(_pairs(linked, mark))
    digests = dict(_sums(sums))
    entries = []
    for record in listed.split(f"{mark}|")[1:]:
        mode, size, mtime, path = record.removesuffix("\n").split(" ", 3)
        path = path.removeprefix("./")
        entries.append(_entry(path, int(mode, 16), int(size), int(mtime), targets, digests))
    return Manifest(entries)


def digests(host: Host, directory: str, paths: Iterable[str]) -> dict[str, str]:
    """The sha256 of these files below `directory`, read on the host."""
    commands = [f"cd {quote(directory)}", *batches("sha256sum --", paths)]
    return dict(_sums(host.run_lines(commands, "Reading back what was uploaded").text))


def _script(directory: str, mark: str, hashed: bool, without: tuple[str, ...]) -> str:
    skip = " ".join(f"-path {quote('./' + _literal(path))} -prune -o" for path in without)
    find = f"find . {skip} ! -name ."
    # Raw mode (%f), size and time are what GNU's and BusyBox's stat both know; the mark makes names
    # with newlines readable.
    links = quote(f'for n; do printf "%s{mark}/%s{mark}|" "${{n#./}}" "$(readlink "$n"; printf .)"; done')
    script = [
        f"[ -d {quote(directory)} ] || exit 0; cd {quote(directory)} || exit 1",
        f"{find} -exec stat -c '{mark}|%f %s %Y %n' {{}} + || exit 1",
        f"echo {mark}=",
        f"{find} -type l -exec sh -c {links} sh {{}} + || exit 1",
        f"echo {mark}=",
    ]
    if hashed:
        script.append(f"{find} -type f -exec sha256sum -- {{}} + || exit 1")
    return "\n".join(script)


def _literal(path: str) -> str:
    """Escape what find's -path would take for a pattern."""
    return "".join("\\" + c if c in "*?[\\" else c for c in path)


def _pairs(text: str, mark: str) -> list[tuple[str, str]]:
    found = []
    for record in text.split(f"{mark}|"):
        if f"{mark}/" in record:
            path, target = record.split(f"{mark}/", 1)
            found.append((path, target.removesuffix(".").removesuffix("\n")))
    return found


def _sums(text: str) -> list[tuple[str, str]]:
    found = []
    # Split where a line starts as a record does: BusyBox writes a newline in a name as it is.
    _, *parts = re.split(r"(?:^|\n)(\\?)([0-9a-f]{64})  \./", text.removesuffix("\n"))
    for escaped, digest, path in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if escaped:  # GNU's way to tell of a newline or backslash in a name
            path = path.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
        found.append((path, digest))
    return found


def _entry(
    path: str, mode: int, size: int, mtime: int, targets: dict[str, str], digests: dict[str, str]
) -> Entry:
    bits = stat.S_IMODE(mode)
    if stat.S_ISDIR(mode):
        return Entry(path, "dir", bits, 0, mtime)
    if stat.S_ISLNK(mode):
        return Entry(path, "link", 0o777, 0, mtime, targets.get(path, ""))
    if stat.S_ISREG(mode):
        return Entry(path, "file", bits, size, mtime, digests.get(path, ""))
    return Entry(path, "special", bits)
