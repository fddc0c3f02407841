"""Whether each path that a deployment touches answers at all: a mount whose server is gone lets nobody go."""

from __future__ import annotations

import posixpath

from ...remote.shell import quote
from ..examination import Examination, read_rows
from ..rules import storage as rules

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
    # echo, since a printf that is no builtin (mksh) may write a line in pieces, which then mix.
    said = e.ask(
        f"n=0; for p in {words}; do n=$((n + 1)); "
        '( why=$(ls -ld "$p" "$p/." 2>&1 >/dev/null | tail -n 1); echo "answers\t$n\t$why" ) & done; wait',
        timeout=e.bound(ANSWERS_WITHIN),
    )
    rows = dict(row.partition("\t")[::2] for row in read_rows(said.out).get("answers", []))
    seen = {path: rows[str(n)] for n, path in enumerate(wanted, 1) if str(n) in rows}
    silent = [path for path in wanted if path not in seen]
    if silent and not said.ended and said.started:
        rules.mount_gone(
            e, silent,
            f"{len(silent)} of {len(wanted)} paths gave no answer within {ANSWERS_WITHIN:g} s, while others "
            f"did at once: {', '.join(silent[: rules.SHOWN])}",
        )  # fmt: skip
        return ""
    if silent:
        return f"the host did not tell about {', '.join(silent)}"
    if gone := {path: why for path, why in seen.items() if rules.server_gone(why)}:
        rules.mount_gone(e, list(gone), "; ".join(f"{path}: {why}" for path, why in gone.items()))
        return ""
    e.saw("paths")
    return ""
