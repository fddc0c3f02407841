"""fab cache-sync"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .task import task

if TYPE_CHECKING:
    from ..events import Listener


@task(
    help={
        "verify": "Only report where the cache is not what was uploaded.",
        "repair": "Look at what the cache really holds, and mend it.",
        "transfer": "auto | stream | rsync | sftp",
        "ref": "The git revision to bring it up to, where the source is a repository.",
        "source": "The folder to upload, without a configuration file.",
        "deploy_to": "The deployment root on each host, without a configuration file.",
    }
)
def cache_sync(
    c: Any,
    verify: bool = False,
    repair: bool = False,
    transfer: str = "",
    ref: str = "",
    source: str = "",
    deploy_to: str = "",
    env: str = "",
    config: str = "",
    json: bool = False,
) -> None:
    """Bring the cache of all hosts up to the source, without a release."""
    from .. import fleet
    from ..errors import ConfigError
    from ..report import documents, lists
    from . import common

    def work(listener: Listener) -> fleet.Outcome:
        common.refuse_dry(c, "cache-sync", "Use `cache-sync --verify`: it reports, and changes nothing.")
        if verify and repair:
            raise ConfigError("--verify and --repair exclude each other.", "", "--verify changes nothing.")
        what = {"source": source, "ref": ref, "deploy_to": deploy_to}
        settings = common.settings(env, config, transfer=transfer, **what)
        typed = common.typed(c, env, config, deploy_to)
        return fleet.cache_sync(
            settings, verify=verify, repair=repair, listener=listener, typed=typed, **common.given(c)
        )

    common.run(json, work, documents.deployment, lists.show_sync)
