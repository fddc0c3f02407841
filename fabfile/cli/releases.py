"""fab releases"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener


@task(help={"deploy_to": "The deployment root on each host, without a configuration file."})
def releases(c: Any, deploy_to: str = "", env: str = "", config: str = "", json: bool = False) -> None:
    """List the releases of all hosts, their states, and which one is live."""
    from .. import fleet
    from ..report import documents, lists
    from . import common

    found: list[fleet.Listing] = []

    def work(listener: Listener) -> fleet.Outcome:
        settings = common.settings(env, config, deploy_to=deploy_to)
        outcome, listings = fleet.releases(settings, listener=listener, **common.given(c))
        found.extend(listings)
        return outcome

    common.run(
        json,
        work,
        lambda outcome: documents.releases(outcome, found),
        lambda outcome: lists.show_releases(found),
    )
