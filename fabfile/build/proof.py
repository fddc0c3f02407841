"""Prove that a tree on the host is what it should be, by digests: a line travels, not a listing.

Where the host can't compute one (no GNU find, no sha256sum) there is none, and release.observe looks at
everything instead. So it does where a digest is not the expected one, to say what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ..on_host.manifest import Entry, Manifest
from ..remote.answers import is_sha256
from ..remote.host import Host
from ..remote.shell import quote
from .apply import batches
from .observe import literal

_DIGEST = "LC_ALL=C sort | sha256sum | cut -c 1-64"
# A setgid parent hands its bit down; it is no difference (Entry.same_shape).
_PLAIN_DIRECTORIES = r"sed 's/^d [0-7]*\([0-7]\{3\}\) /d \1 /'"


def possible(host: Host) -> bool:
    """Whether the host can compute these digests."""
    return host.facts.find_printf and host.has("sha256sum")


def digests(**scripts: str) -> str:
    """A script that computes several digests at the same time; see parse()."""
    started = [f"( printf '{name} %s\\n' \"$({script})\" ) &" for name, script in scripts.items()]
    return "\n".join([*started, "wait"])


def parse(said: str) -> dict[str, str]:
    """The digests by name; what could not be computed is missing, and so is what is none."""
    pairs = (line.split() for line in said.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and is_sha256(pair[1])}


def shape(directory: str, without: Iterable[str]) -> str:
    """A script that prints the digest of kinds, modes, sizes and links' targets below `directory`.

    without: relative paths that are left out, with what is below them.
    """
    skip = "".join(f"-path {quote('./' + literal(path))} -prune -o " for path in without)
    return (
        f"cd {quote(directory)} && find . -mindepth 1 {skip}"
        r"-type f -printf 'f %m %s %P\n' -o -type l -printf 'l %l %P\n' -o -printf '%y %m %P\n'"
        f" | {_PLAIN_DIRECTORIES} | {_DIGEST}"
    )


def expected_shape(manifest: Manifest) -> str:
    """What shape() prints for a tree that is as `manifest` says."""
    return _digest(_shape_line(entry) for entry in manifest)


def content(host: Host, directory: str, files: Iterable[Entry], all_but: Iterable[str] | None = None) -> str:
    """A script that prints the digest of the files' content. all_but: they are all files that there are, but
    for these paths.
    """
    if all_but is None:
        sums = " && ".join([":", *batches("sha256sum --", (entry.path for entry in files))])
    else:
        skip = "".join(f"! -path {quote('./' + literal(path))} " for path in all_but)
        sums = f"find . -type f {skip}-print0 | {_sums(host.facts.cores)}"
    return f"cd {quote(directory)} && {{ {sums}; }} | {_DIGEST}"


def _sums(processes: int) -> str:
    """sha256sum of the files that are named on standard input; each process has a file for what it says,
    since lines in one pipe would mix.
    """
    one = quote('sha256sum -- "$@" >> "$0/$$"')
    return (
        f'{{ sums=$(mktemp -d) && xargs -0 -r -n 200 -P {processes} sh -c {one} "$sums"; '
        'find "$sums" -type f -exec cat {} +; rm -rf "$sums"; }'
    )


def expected_content(files: Iterable[Entry]) -> str:
    """What content() prints for files that are as they should be; sha256sum escapes odd names."""
    return _digest(
        f"{_escaped(entry.path)[0]}{entry.content}  {_escaped('./' + entry.path)[1]}" for entry in files
    )


def seal(directory: str) -> str:
    """A script that prints a digest which any change below `directory` changes: whoever writes to a file, or
    renames, adds or removes one, changes inode change times, and nobody can set those.
    """
    return f"cd {quote(directory)} && find . -mindepth 1 -printf '%P %y %m %s %T@ %C@ %i\\n' | {_DIGEST}"


def _shape_line(entry: Entry) -> str:
    if entry.kind == "file":
        return f"f {entry.mode:o} {entry.size} {entry.path}"
    if entry.kind == "link":
        return f"l {entry.content} {entry.path}"
    return f"d {entry.mode & 0o777:03o} {entry.path}"


def _escaped(path: str) -> tuple[str, str]:
    if not any(c in path for c in "\\\n\r"):
        return "", path
    return "\\", path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _digest(lines: Iterable[str]) -> str:
    """Of the lines as `sort` puts them: a newline in a name makes two of one."""
    encoded = (line.encode("utf-8", "surrogateescape") for line in lines)
    digest = hashlib.sha256()
    for part in sorted(part for line in encoded for part in line.split(b"\n")):
        digest.update(part + b"\n")
    return digest.hexdigest()
