"""See what a directory on the host really holds, as a manifest."""

from __future__ import annotations

import re
import secrets
import stat
from collections.abc import Iterable

from ..on_host.manifest import Entry, Manifest, text_limit
from ..remote.answers import SHOWN, decimal, inside, not_understood
from ..remote.host import Host
from ..remote.script_files import Scripts, quote
from .apply import batches

_scripts = Scripts(__package__)


def observe(
    host: Host,
    directory: str,
    *,
    hashed: bool = False,
    without: tuple[str, ...] = (),
    tolerant: bool = False,
    like: int = 0,
) -> Manifest:
    """List everything below `directory`, in one command.

    hashed:  read all files for their sha256 too.
    without: relative paths to leave out, with what is below them.
    tolerant: a file that can't be read has no sha256, and what is in such a directory is left out.
    like: the paths of our own tree that it is compared with, which says how long the answer may be.
    Links have their target. A directory that isn't there holds nothing. Raises CommandFailed when
    something can't be read, AnswerNotUnderstood when that is not what was asked for.
    """
    mark, what = secrets.token_hex(8), f"Listing {directory}"
    script = _script(directory, mark, hashed, without, tolerant)
    text = host.shell.run(script, what=what, most=text_limit(like)).text
    try:
        return _listed(text, mark)
    except ValueError as error:
        raise not_understood(what, f"{error}: {text[:SHOWN]}") from None


def digests(host: Host, directory: str, paths: Iterable[str]) -> dict[str, str]:
    """The sha256 of these files below `directory`, read on the host. Raises AnswerNotUnderstood when it tells
    of another.
    """
    asked, what = list(paths), "Reading back what was uploaded"
    commands = [f"cd {quote(directory)}", *batches("sha256sum --", asked)]
    text = host.run_lines(commands, what, most=text_limit(len(asked))).text
    found = dict(_sums(text))
    if not found.keys() <= set(asked):
        raise not_understood(what, text)
    return found


def _listed(text: str, mark: str) -> Manifest:
    """What the script has printed; nothing, where there is no such directory. Raises ValueError."""
    if not text:
        return Manifest()
    listed, linked, sums = text.split(f"{mark}=\n")
    targets, digests, entries = dict(_pairs(linked, mark)), dict(_sums(sums)), []
    first, *records = listed.split(f"{mark}|")
    for record in records:
        mode, size, mtime, path = record.removesuffix("\n").split(" ", 3)
        path = inside(path.removeprefix("./"))
        seconds = -decimal(mtime[1:]) if mtime.startswith("-") else decimal(mtime)
        entries.append(_entry(path, int(mode, 16), decimal(size), seconds, targets, digests))
    found = Manifest(entries)
    answered = {path for paths in (targets, digests) for path in paths}
    if first or len(found) != len(entries) or not answered <= found.entries.keys():
        raise ValueError("paths that are there twice, or were not listed")
    return found


def _script(directory: str, mark: str, hashed: bool, without: tuple[str, ...], tolerant: bool) -> str:
    left_out = [word for path in without for word in ("-path", f"./{literal(path)}", "-prune", "-o")]
    return _scripts(
        "observe",
        *left_out,
        directory=directory,
        mark=mark,
        hashed="hashed" if hashed else "",
        tolerant="tolerant" if tolerant else "",
    )


def literal(path: str) -> str:
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
