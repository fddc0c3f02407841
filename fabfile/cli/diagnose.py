"""fab diagnose"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener


@task(
    help={
        "deep": "Also watch idle connections for as long as deployments take: minutes.",
        "wait": "Seconds that --deep watches them.",
        "rehearse": "Also build two small deployments beside the site, and remove them.",
        "html": "Write the report as one self-contained page, too.",
        "anonymous": "Leave the names of users, hosts and machines out of the page and the JSON document.",
        "only": "Look for these findings only: ID,ID,…",
        "deploy_to": "The deployment root on each host, without a configuration file.",
    }
)
def diagnose(
    c: Any,
    deep: bool = False,
    wait: int = 300,
    rehearse: bool = False,
    html: str = "",
    anonymous: bool = False,
    only: str = "",
    deploy_to: str = "",
    env: str = "",
    config: str = "",
    json: bool = False,
) -> None:
    """Find out why a host can't be deployed to, with evidence, and what mends it."""
    # Here, because no other task needs them.
    from .. import diagnosis, fleet
    from ..report import diagnosis as report
    from ..report import html as page
    from ..report import names
    from . import common

    found: list[diagnosis.Diagnosis] = []
    written: list[str] = []

    def work(listener: Listener) -> fleet.Outcome:
        common.refuse_dry(c, "diagnose", _PLAINLY)
        ids = _ids(only, list(diagnosis.CATALOGUE))
        settings = common.settings(env, config, deploy_to=deploy_to)
        if html:
            page.check(Path(html))
        seconds, trial = float(max(wait, 2)) if deep else None, fleet.deploy if rehearse else None
        how = {"deep": seconds, "rehearse": trial, "only": ids, **common.given(c)}
        found.extend(diagnosis.diagnose(settings, listener=listener, **how))
        if html:
            if error := page.try_to_write(Path(html), found, diagnosis.differences(found), hidden()):
                return fleet.Outcome(1, error)
            written.append(html)
        return fleet.Outcome(0 if all(host.ok for host in found) else 1)

    def hidden() -> Mapping[str, str] | None:
        return names.of(found) if anonymous else None

    def document(outcome: fleet.Outcome) -> dict[str, Any]:
        return report.document(outcome, found, diagnosis.differences(found))

    def show(outcome: fleet.Outcome) -> None:
        report.show(found, diagnosis.differences(found), "".join(written))

    common.run(json, work, document, show, names=hidden)


_PLAINLY = "Leave -R out: a diagnosis undoes what it tries, and leaves nothing behind."


def _ids(only: str, known: list[str]) -> list[str]:
    from ..errors import ConfigError

    ids = [part.strip() for part in only.split(",") if part.strip()]
    for id in ids:
        if id not in known:
            near = difflib.get_close_matches(id, known, 1)
            raise ConfigError(
                f"There is no finding called {id}.",
                "--only takes ids of findings",
                f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}",
            )
    return ids
