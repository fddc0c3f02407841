"""The JSON documents of deploy, rollback, cache-sync, releases, unlock and errors: see docs/json.md."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import SwitchoverError
from ..results import HostResult, Outcome

if TYPE_CHECKING:
    from ..fleet import Holding, Listing

Json = dict[str, Any]


def deployment(outcome: Outcome) -> Json:
    """deploy, rollback, cache-sync."""
    return {**head(outcome), "hosts": [_host(result) for result in outcome.hosts]}


def releases(outcome: Outcome, listings: list[Listing]) -> Json:
    """releases."""
    return {
        **head(outcome),
        "hosts": [
            {
                "host": listing.host,
                "current": listing.current,
                "releases": [
                    {
                        "id": record.id,
                        "state": record.state,
                        "revision": record.revision,
                        "created": record.created,
                        "deployed_by": record.deployed_by,
                        "bytes": record.bytes,
                        "left": record.left,
                    }
                    for record in listing.releases
                ],
                "error": _error(listing.error),
            }
            for listing in listings
        ],
    }


def locks(outcome: Outcome, holdings: list[Holding]) -> Json:
    """unlock."""
    hosts = []
    for holding in holdings:
        owner = asdict(holding.owner) if holding.owner else None
        if owner:
            owner.pop("token")
        hosts.append(
            {
                "host": holding.host,
                "held": holding.held,
                "owner": owner,
                "broken": holding.broken,
                "error": _error(holding.error),
            }
        )
    return {**head(outcome), "hosts": hosts}


def head(outcome: Outcome) -> Json:
    """What every document begins with."""
    error = _error(outcome.error)
    if error and outcome.served:
        error["why"] = "\n".join(filter(None, [error["why"], *outcome.served]))
    return {"ok": outcome.ok, "exit_code": outcome.exit_code, "error": error}


def _error(error: SwitchoverError | None) -> Json | None:
    return error.as_dict() if error else None


def _host(result: HostResult) -> Json:
    entry: Json = {
        "host": result.host,
        "ok": result.ok,
        "release": result.release,
        "previous": result.previous,
        "live": result.live,
        "strategy": result.strategy,
        "transfer": result.transfer,
        "copy": result.copy,
        "files_uploaded": result.files_uploaded,
        "files_deleted": result.files_deleted,
        "bytes_uploaded": result.bytes_uploaded,
        "reconnects": result.reconnects,
        "phases": result.phases,
        "seeds": result.seeds,
        "unserved": result.unserved,
        "failed_in": result.failed_in or None,
        "error": _error(result.error),
    }
    if result.again is not None:
        entry["switched_back"] = {"after_switch": result.again.hooks, "health": result.again.health}
    if result.plan is not None:
        entry["plan"] = {
            "added": [e.path for e in result.plan.added],
            "changed": [e.path for e in result.plan.changed],
            "deleted": [e.path for e in result.plan.deleted],
            "bytes": result.plan.size,
        }
    if result.drift is not None:
        entry["drift"] = result.drift
    return entry
