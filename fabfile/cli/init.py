"""fab init"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener
    from ..init.begin import Begun
    from ..results import Outcome


@task(
    help={
        "deploy_to": "The folder on each host, instead of what is found there.",
        "fabfile": "Write a fabfile.py for tasks of your own, too.",
        "ci": "Write a CI job, too: github | gitlab",
        "config": "The file to write, instead of ./config.yaml.",
        "json": "One JSON document on stdout at the end; everything else goes to stderr.",
    },
    common=False,
)
def init(
    c: Any, deploy_to: str = "", fabfile: bool = False, ci: str = "", config: str = "", json: bool = False
) -> None:
    """Write a first config.yaml, from what this folder and the hosts of -H look like."""
    from ..init import begin
    from ..results import Outcome
    from . import common

    done: list[Begun] = []

    def work(listener: Listener) -> Outcome:
        common.refuse_dry(c, "init", "Leave -R out: no file is ever replaced.")
        wish = begin.Wish(Path(config or os.environ.get("SWITCHOVER_CONFIG") or "config.yaml"), fabfile, ci)
        ask = _ask if not json and sys.stdin.isatty() and sys.stdout.isatty() else None
        done.append(begin.begin(wish, common.targets(c), deploy_to, ask, listener, common.fabric_config(c)))
        return Outcome()

    def document(outcome: Outcome) -> dict[str, Any]:
        from ..report.documents import head

        found = done[0].document() if done else {"written": [], "kind": None, "deploy_to": None}
        return {**head(outcome), **found, "hosts": []}

    def show(outcome: Outcome) -> None:
        from ..report.screen import Screen

        for begun in done:
            screen = Screen()
            screen.say(
                (f"✓ {begun.draft.project.kind}: {', '.join(map(str, begun.written))} written", "bold")
            )
            screen.say("Read it, then type:")
            screen.say(begun.next, indent=2)

    common.run(json, work, document, show)


def _ask(question: str, default: str) -> str:
    """An answer, or the default where none is given."""
    try:
        return input(f"{question} [{default}]: ").strip() or default
    except EOFError:
        return default
