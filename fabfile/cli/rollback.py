"""fab rollback"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener


@task(
    help={
        "to": "The id of the release to go back to; see `releases`.",
        "plan": "Say which release would be live, and change nothing.",
        "deploy_to": "The deployment root on each host, without a configuration file.",
    }
)
def rollback(
    c: Any,
    to: str = "",
    plan: bool = False,
    deploy_to: str = "",
    env: str = "",
    config: str = "",
    json: bool = False,
) -> None:
    """Make the newest good release before the live one live again, or the one named by --to."""
    from .. import fleet
    from ..report import documents
    from . import common

    def work(listener: Listener) -> fleet.Outcome:
        common.refuse_dry(c, "rollback", "Use `rollback --plan`: it says which release would be live.")
        settings = common.settings(env, config, deploy_to=deploy_to)
        typed = common.typed(c, env, config, deploy_to)
        return fleet.rollback(
            settings, to=to or None, plan=plan, listener=listener, typed=typed, **common.given(c)
        )

    def show(outcome: fleet.Outcome) -> None:
        from ..report import console, lists

        (lists.show_rollback_plan if plan else console.show_deployment)(outcome)

    common.run(json, work, documents.deployment, show)
