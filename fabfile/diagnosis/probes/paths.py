"""Whether each path that a deployment touches answers at all: a mount whose server is gone lets nobody go."""

from __future__ import annotations

import posixpath

from ...remote.shell import quote
from ..examination import Examination, read_rows
from ..finding import Fix

ANSWERS_WITHIN = 6.0  # seconds for all of them


def answer(e: Examination) -> str:
    """Look at each path in a process of its own: what hangs can't be ended, but need not be waited for."""
    assert e.layout is not None
    root = e.layout
    shared = [f"{root.shared}/{path}" for path in (*e.settings.shared.dirs, *e.settings.shared.files)]
    wanted = [
        posixpath.dirname(root.deploy_to), root.deploy_to, root.current, root.releases, root.cache,
        root.shared, *shared, root.own, root.locks, root.records, root.incoming, root.jobs,
    ]  # fmt: skip
    words = " ".join(quote(path) for path in wanted)
    said = e.ask(
        f"for p in {words}; do "
        '( ls -ld "$p" "$p/." >/dev/null 2>&1; printf "answers\\t%s\\n" "$p" ) & done; wait',
        timeout=ANSWERS_WITHIN,
    )
    seen = read_rows(said.out).get("answers", [])
    silent = [path for path in wanted if path not in seen]
    if not silent:
        return ""
    if said.ended or not said.started:
        return f"the host did not tell about {', '.join(silent)}"
    first = min(silent, key=len)
    e.abilities["deploy_to"] = "path-hangs"
    e.fail(
        "path-hangs", f"{first} does not answer: whoever touches it hangs.",
        f"{len(silent)} of {len(wanted)} paths gave no answer within {ANSWERS_WITHIN:g} s, while others "
        "did at once: "
        f"{', '.join(silent[:6])}",
        "Something is mounted there whose server is gone (NFS, SSHFS, another FUSE): see `mount`, and "
        "mount it anew. "
        "A deployment would hang there until its time is over.",
        Fix("host", f"umount -l {quote(first)}"), silent=silent, waited=ANSWERS_WITHIN,
    )  # fmt: skip
    return ""
