"""fab deploy"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener


@task(
    help={
        "strategy": "cache | previous",
        "transfer": "auto | stream | rsync | sftp",
        "copy": "auto | recycle | reflink | hardlink | full",
        "ref": "The git revision to deploy, where the source is a repository.",
        "plan": "Say what would be added, changed and deleted on each host, and change nothing.",
        "skip_health": "Leave out the health check.",
        "resume": "Finish an interrupted deployment of the same source.",
        "from_scratch": "Rebuild the cache from nothing, whatever it holds now.",
        "source": "The folder to deploy, without a configuration file.",
        "deploy_to": "Where to, on each host: an absolute path.",
    }
)
def deploy(
    c: Any,
    strategy: str = "",
    transfer: str = "",
    copy: str = "",
    ref: str = "",
    plan: bool = False,
    skip_health: bool = False,
    resume: bool = False,
    from_scratch: bool = False,
    source: str = "",
    deploy_to: str = "",
    env: str = "",
    config: str = "",
    json: bool = False,
) -> None:
    """Put the source live on all hosts, with no moment of downtime."""
    from .. import fleet
    from ..commands.deployment import Options
    from ..report import documents
    from . import common

    def work(listener: Listener) -> fleet.Outcome:
        instead = "Use `deploy --plan`: it says what would be done, and changes nothing."
        common.refuse_dry(c, "deploy", instead)
        how = {"strategy": strategy, "transfer": transfer, "copy": copy}
        settings = common.settings(env, config, deploy_to=deploy_to, source=source, ref=ref, **how)
        return fleet.deploy(
            settings,
            plan=plan,
            options=Options(from_scratch, skip_health, resume),
            listener=listener,
            typed=common.typed(c, env, config, deploy_to),
            **common.given(c),
        )

    def show(outcome: fleet.Outcome) -> None:
        from ..report import console, lists

        (lists.show_plan if plan else console.show_deployment)(outcome)

    common.run(json, work, documents.deployment, show)
