"""fab unlock"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener


@task(
    help={
        "force": "Break the lock; whoever holds it stops before the switch.",
        "deploy_to": "The deployment root on each host, without a configuration file.",
    }
)
def unlock(
    c: Any, force: bool = False, deploy_to: str = "", env: str = "", config: str = "", json: bool = False
) -> None:
    """Show who holds the lock of each host; --force breaks it."""
    from .. import fleet
    from ..report import documents, lists
    from . import common

    found: list[fleet.Holding] = []

    def work(listener: Listener) -> fleet.Outcome:
        if force:
            common.refuse_dry(c, "unlock --force", "Leave --force out: then it shows who holds the lock.")
        settings = common.settings(env, config, deploy_to=deploy_to)
        outcome, holdings = fleet.unlock(settings, force=force, listener=listener, **common.given(c))
        found.extend(holdings)
        return outcome

    common.run(
        json,
        work,
        lambda outcome: documents.locks(outcome, found),
        lambda outcome: lists.show_locks(found, common.typed(c, env, config, deploy_to)),
    )
