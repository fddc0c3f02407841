"""Make a release out of another tree on the host: recycled, reflinked, hardlinked or copied in full."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from ..remote.host import Host
from ..remote.shell import quote
from ..site import records
from ..site.layout import Layout
from ..site.manifest import Manifest
from ..site.records import Record
from . import apply, proof, shared

FLAGS = {"reflink": "--reflink=always", "hardlink": "-l", "full": ""}
DRIFTED = "drifted"
PIECES = 3  # a core: they are never all the same size
SAMPLE = 3000  # paths that are looked at
DEEPEST = 8
MODES = ("recycle", "reflink", "hardlink", "full")


@dataclass(frozen=True)
class Old:
    """A release that retention would remove, and that can become the new one instead."""

    record: Record
    manifest: Manifest


def script(
    host: Host, source: str, target: str, mode: str, own: str, like: Manifest, recycling: str = ""
) -> str:
    """Makes `target` (replaced if it is there) a copy of the directory `source`, and prints the mode used.
    Nobody else can enter the copy: its root has the mode 0700.

    own: a directory on the same file system, for trying what that can do. like: about what `source` holds.

    mode: auto and recycle try `recycling` first (see recycle(), "" where nothing can be), then reflink, then
    full. They never hardlink, since then a file changed in place in one release would change in all.
    """
    copy = _copier(host, like)

    def way(name: str) -> str:
        return f"fresh && {copy(FLAGS[name])} && echo {name}"

    prepared = "\n".join([apply.ENTER, _fresh(source, target)])
    if mode in ("reflink", "hardlink"):
        return f"{prepared}\n{way(mode)}"
    ways = []
    if mode != "full" and host.facts.cp_reflink:
        ways.append(f"{{ {_reflinks(own)}; }} && {{ {way('reflink')}; }} 2>/dev/null")
    ways.append(f"{{ {way('full')}; }}")
    # Called on a line of its own: `set -e` does nothing in a list of && and ||.
    first = f"{recycling}\nrecycled\n[ $? != 0 ] || {{ echo recycle; exit 0; }}" if recycling else ""
    return "\n".join([prepared, first, " || ".join(ways)])


def _fresh(source: str, target: str) -> str:
    """A function that makes `target` an empty directory and the working directory; $from is the source."""
    parent, name = quote(posixpath.dirname(target)), quote(posixpath.basename(target))
    return (
        f"cd -P {quote(source)} >/dev/null && ask >/dev/null || exit; from=$PWD\n"
        f"fresh() {{ cd -P {parent} >/dev/null && rm -rf ./{name} && tree_in . {name}; }}"
    )


def mode_used(said: str) -> str:
    """The mode that script() printed, at the end of what else was said; "" if it was not run."""
    return next((word for word in reversed(said.split()) if word in MODES), "")


def _copier(host: Host, like: Manifest) -> Callable[[str], str]:
    """What copies $from into the working directory, for some flags of cp: with one process a core, where the
    host can and it pays.
    """
    facts = host.facts
    shares = facts.cores * PIECES
    depth = _depth(like, shares) if facts.cores > 1 and facts.find_printf and host.has("tar") else 0
    if not depth:
        # Not the root itself, which would get the source's mode before all is there.
        each = quote('cp -a $0 "$@" .')
        return lambda flags: (
            f'find "$from/." ! -name . -prune -exec sh -c {each} {quote(flags or "-P")} {{}} +'
        )
    trees = sum(1 for entry in like if entry.kind == "dir" and entry.path.count("/") == depth - 1)

    def copy(flags: str) -> str:
        def some(number: int) -> str:
            return f'xargs -0 -r -P {facts.cores} -n {number} cp -a {flags} --parents -t "$there" --'

        # The directories above that depth, whole trees at it, files down to it; their times come last. The
        # copy's own path may be led elsewhere, so it is named by a handle where there is one.
        return (
            "unset TAR_OPTIONS && there=$PWD && exec 8< . && "
            "{ [ ! -d /proc/self/fd/8/. ] || there=/proc/self/fd/8; } && "
            f'( cd "$from" && find . -mindepth 1 -maxdepth {depth - 1} -type d -print0 | '
            '(cd "$there" && xargs -0 -r mkdir -p --) && '
            f"find . -mindepth {depth} -maxdepth {depth} -type d -print0 | "
            f"{some(trees // (4 * shares) + 1)} && "
            f"find . -mindepth 1 -maxdepth {depth} ! -type d -print0 | {some(500)} && "
            f"find . -mindepth 1 -maxdepth {depth - 1} -type d -print0 | "
            'tar -c --no-recursion --null -T - -f - | tar -x -p -C "$there" -f - )'
        )

    return copy


def _depth(manifest: Manifest, pieces: int) -> int:
    """How many levels down no directory has more than one of so many shares of the files; 0: nowhere.
    By a sample of the paths.
    """
    sample = islice(manifest, 0, None, len(manifest) // SAMPLE + 1)
    files = [entry.path for entry in sample if entry.kind != "dir"]
    for depth in range(1, DEEPEST + 1):
        sizes = Counter("/".join(path.split("/", depth)[:depth]) for path in files)
        if max(sizes.values(), default=len(files) + 1) * pieces <= len(files):
            return depth
    return 0


def recycle(
    layout: Layout, old: Old, wanted: Manifest, source: str, target: str, links: Sequence[str]
) -> str:
    """A function `recycled` that renames the old release to `target` and brings it up to `wanted` from
    `source`, by the difference of the two manifests; false where the tree is not as it was sealed.

    links: the shared paths, unlinked before anything is written. The old release's record says "failed"
    before its tree goes.
    """
    tree = layout.release(old.record.id)
    difference = old.manifest.difference(wanted)
    forget = records.write(layout, old.record.become(records.FAILED))
    name = posixpath.basename(target)
    steps = [
        "set -e",
        forget,
        f"cd -P {quote(layout.releases)} >/dev/null",
        f"rm -rf ./{name} && mv -fT ./{old.record.id} ./{name}",
        f"tree_in . {name}",
        "chmod 700 .",
        shared.unlink(sorted({*links, *old.record.shared})),
        *apply.commands(difference, old.manifest, source, target, staged=False),
    ]
    body = "\n".join(steps)
    return f"""
{proof.SEALS}
recycled() {{
  seals {quote(layout.own)} &
  [ "$({proof.seal(tree)})" = {quote(old.record.seal)} ]; sealed=$?
  wait $! || return 1
  [ $sealed = 0 ] || {{ echo {DRIFTED}; return 1; }}
  (
{body}
  )
}}
"""


def knows_reflink(host: Host, directory: str) -> bool:
    """Whether files in `directory` can be copied without taking room; tried with a small one."""
    tried = host.facts.cp_reflink and host.shell.run(
        _reflinks(directory), check=False, what="Trying a reflink"
    )
    return bool(tried and tried.status == 0)


def _reflinks(directory: str) -> str:
    """Tried with one file: cp itself would try each of a tree."""
    probe = quote(f"{directory}/reflink.probe")
    copy = f"echo > {probe} && cp --reflink=always {probe} {probe}.copy 2>/dev/null"
    return f"rm -rf {probe} {probe}.copy; {copy}; s=$?; rm -f {probe} {probe}.copy; [ $s = 0 ]"
