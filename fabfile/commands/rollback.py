"""A rollback: back to an earlier release on one host, in the same phases as a deployment.

require      connect · lock · check                            (see session.open_session)
prepare      verify
switch       switch
prove        after_switch · health
confirm      confirm
finish       unlock
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..build import verify
from ..errors import NoSuchRelease, VerificationFailed
from ..events import shorten_list
from ..on_host import records
from ..on_host.layout import sort_key
from ..on_host.records import Record
from ..session.going_live import GoingLive, require_tools
from ..session.opening import take_over
from ..session.services import Services, Tree
from ..session.session import HostSession, HostView
from ..session.steps import Steps


class GoBack:
    """A rollback as it is asked for. to: the release; None for the newest good one before the live one."""

    def __init__(self, to: str | None) -> None:
        self.to = to

    def require(self, view: HostView) -> None:
        """See Command.require."""
        require_tools(view, health=True)

    def choose(self, views: Sequence[HostView]) -> str:
        """The release that all hosts go back to. Raises NoSuchRelease where they have none in common."""
        wanted = self.to if self.to is not None or len(views) == 1 else _newest_in_common(views)
        return {_find(view, wanted).id for view in views}.pop()

    def begin(self, session: HostSession, release: str) -> Rollback:
        """End what other commands have left running there."""
        record = self.find(session, release)
        return Rollback(take_over(session), record)

    def find(self, view: HostView, release: str) -> Record:
        """The record of what this host goes back to, as its result says from now on."""
        found = _find(view, release)
        view.result.release = found.id
        view.result.strategy = found.strategy
        return found


class Rollback:
    """Back to an earlier release on one host. record: of that release."""

    def __init__(self, session: HostSession, record: Record) -> None:
        self.session = session
        self.layout = session.layout
        self.record = record
        self.services = Services(session, "rollback")
        self.live = GoingLive(session, self.services, record.id)

    @property
    def steps(self) -> Steps:
        """The steps of this host."""
        return self.session.steps

    def prepare(self) -> None:
        """See that the release is whole."""
        release, host = self.record.id, self.session.host
        with self.session.step("verify"):
            missing = verify.missing(self.session, release)
            if missing:
                raise VerificationFailed(
                    f"Release {release} on {host.name} is not whole any more.",
                    f"{len(missing)} paths are missing: {shorten_list(missing)}",
                    "Choose another with --to ID, or deploy again. This lists the releases:",
                    task=records.LIST,
                )

    def switch(self) -> None:
        """Make it live."""
        self.live.switch()

    def prove(self) -> None:
        """The same as after a deployment: services are told, health is checked."""
        folder = self.layout.release(self.record.id)
        self.services.after_switch(Tree(self.record.id, folder, self.record.revision))
        self.services.check_health()

    def confirm(self) -> None:
        """See GoingLive.confirm."""
        self.live.confirm()

    def finish(self) -> None:
        """Write down who is live and who was left, unlock."""
        found = self.session.state
        changed = [replace(self.record.become(records.LIVE), left=False)]
        before = found.records.get(found.live or "")
        # It is the same release where the host went back by itself a moment ago.
        if before and before.id != self.record.id and before.state in records.NOT_LIVE_ANY_MORE:
            changed.append(before.become(records.NOT_LIVE_ANY_MORE[before.state]))
        self.session.close(changed)

    # The ways back

    def switch_back(self) -> None:
        """Put back what was live. Its record says so still."""
        if self.live.tried:
            self.live.switch_back()

    def serve_again(self) -> None:
        """See GoingLive.serve_again."""
        self.live.serve_again()

    def abandon(self) -> None:
        """Nothing was built."""


def _candidates(view: HostView) -> dict[str, Record]:
    """Releases whose directory is there."""
    live = view.state.live
    found = {name: r for name, r in view.state.records.items() if name in view.state.directories}
    # One that says "live" and isn't was, before a switch whose record could not be written.
    return {
        name: r.become(records.GOOD) if r.state == records.LIVE and name != live else r
        for name, r in found.items()
    }


def _find(view: HostView, wanted: str | None) -> Record:
    return records.rollback_target(_candidates(view), view.state.live, wanted)


def _newest_in_common(views: Sequence[HostView]) -> str:
    """The newest good release that all hosts have, and that is older than what is live on any."""
    names = [{n for n, r in _candidates(v).items() if r.state == records.GOOD and not r.left} for v in views]
    lives = [view.state.live for view in views if view.state.live]
    oldest_live = min(lives, key=sort_key) if lives else "9"
    common = [name for name in set.intersection(*names) if sort_key(name) < sort_key(oldest_live)]
    if not common:
        good = "; ".join(
            f"{view.host.name}: {', '.join(sorted(n)) or 'none'}"
            for view, n in zip(views, names, strict=True)
        )
        raise NoSuchRelease(
            "The hosts have no good release in common before the live one.",
            f"good releases are {good}",
            "Roll back host by host with --to ID. This lists the releases:",
            task=records.LIST,
        )
    return max(common, key=sort_key)
