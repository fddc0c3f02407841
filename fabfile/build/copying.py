"""Make a release out of another tree on the host: recycled, reflinked, hardlinked or copied in full."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from ..on_host import records
from ..on_host.layout import Layout
from ..on_host.manifest import Manifest
from ..on_host.records import Record
from ..remote.host import Host
from ..remote.script_files import Scripts
from . import apply, proof, shared

_scripts = Scripts(__package__)
DRIFTED = "drifted"
PIECES = 3  # a core: they are never all the same size
SAMPLE = 3000  # paths that are looked at
DEEPEST = 8
MODES = ("recycle", "reflink", "hardlink", "full")


class Old(NamedTuple):
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
    facts = host.facts
    processes = facts.cores * PIECES
    depth = _depth(like, processes) if facts.cores > 1 and facts.find_printf and host.has("tar") else 0
    trees = sum(1 for entry in like if entry.kind == "dir" and entry.path.count("/") == depth - 1)
    copy = _scripts(
        "copy_release",
        source=source,
        parent=posixpath.dirname(target),
        name=posixpath.basename(target),
        mode=mode,
        recycling="yes" if recycling else "",
        cp_reflink="yes" if facts.cp_reflink else "",
        probe=_probe(own),
        processes=facts.cores,
        depth=depth,
        trees=trees // (4 * processes) + 1,
    )
    return f"{recycling}\n{copy}"


def mode_used(said: str) -> str:
    """The mode that script() printed, at the end of what else was said; "" if it was not run."""
    return next((word for word in reversed(said.split()) if word in MODES), "")


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
    steps = [
        "set -e",
        forget,
        "rename_old",
        shared.unlink(sorted({*links, *old.record.shared})),
        *apply.commands(difference, old.manifest, source, target, staged=False),
    ]
    body = "\n".join(steps)
    recycled = _scripts(
        "recycle",
        own=layout.own,
        seal=old.record.seal,
        releases=layout.releases,
        old=old.record.id,
        name=posixpath.basename(target),
        drifted=DRIFTED,
    )
    return f"{recycled}\ndigest() {{ {proof.seal(tree)}; }}\nbecome() {{\n{body}\n}}"


def knows_reflink(host: Host, directory: str) -> bool:
    """Whether files in `directory` can be copied without taking room; tried with a small one."""
    trying = f"{_scripts('reflinks', probe=_probe(directory))}\nreflinks"
    tried = host.facts.cp_reflink and host.shell.run(trying, check=False, what="Trying a reflink")
    return bool(tried and tried.status == 0)


def _probe(directory: str) -> str:
    return f"{directory}/reflink.probe"
