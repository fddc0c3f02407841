"""Going live on one host, and going back to what was live before."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from ..errors import HealthCheckFailed, HostNotReady, LockLost
from ..on_host import records, went_back
from ..on_host.records import Record
from ..on_host.state import State
from ..results import UNKNOWN, HostResult, ServedAgain
from . import deadman, switch
from .services import Services, tree_before
from .session import HostSession, HostView


def require_tools(view: HostView, *, health: bool) -> None:
    """Raise HostNotReady where the host lacks what going live needs. health: whether that will be checked."""
    host = view.host
    if health and view.settings.health and not (host.has("curl") or host.has("wget")):
        raise HostNotReady(
            f"{host.name} has neither curl nor wget.",
            "health.url is fetched from the host, after the switch",
            "Install curl there, or leave the check out: --skip-health, or no `health` in config.yaml.",
        )
    switch.require_rename(host)
    if view.settings.confirm and not host.facts.mv_no_target:
        deadman.refuse(host)


class GoingLive:
    """The live link of one host: moved to a release, and put back.

    tried: from here on the link may be either. switched: the release was seen to be live. went_back: the host
    has put the link back by itself.
    """

    def __init__(
        self, session: HostSession, services: Services, release: str, switched: bool = False
    ) -> None:
        self.session = session
        self.services = services
        self.release = release
        self.tried = self.switched = switched
        self.went_back = False

    def switch(self, record: Record | None = None) -> None:
        """Make the release live. record: what is written down of it right before, in the same round trip; and
        that it is bad, where the host goes back by itself.
        """
        session = self.session
        with session.step("switch") as tell:
            self.tried = True
            session.result.live = UNKNOWN
            self._arm(record)
            session.publish(f"releases/{self.release}", *([record] if record else []))
            self.switched = True
            session.result.live = self.release
            tell(f"{session.state.shown} → {self.release}, {session.host.files.settle()}")

    @property
    def silence(self) -> str:
        """Why the host goes back by itself."""
        confirm = self.session.settings.confirm
        return f"nothing was heard of us for {confirm.within if confirm else 0} s after the switch"

    def confirm(self) -> None:
        """The new release has proved itself: disarm the timer. Raises HealthCheckFailed."""
        session, confirm = self.session, self.session.settings.confirm
        if confirm is None:
            return
        with session.step("confirm"):
            if not deadman.disarm(session.host, session.jobs):
                raise HealthCheckFailed(
                    f"{session.host.name} has gone back by itself.",
                    f"it heard nothing of us for {confirm.within} s (confirm.within)",
                    "See why the connection was lost; raise confirm.within if the network needs longer.",
                )

    def switch_back(self) -> str | None:
        """Put back what was live before. Safe where the switch happened only half.

        Gives why the host itself had decided that ("" where it had not), None where the lock is somebody
        else's now, so that nothing is ours to write down. Raises LockLost where the release then stays live.
        """
        session = self.session
        with session.step("switch back") as tell:
            seen = session.host.files.readlink(session.layout.current)
            was_ours = seen == f"releases/{self.release}"
            if isinstance(session.result.error, LockLost):
                self._leave_to_others(seen, was_ours)
                return None
            # Where the rename was refused, nothing is to be put back, and a second one would be refused too.
            if seen != session.state.target:
                session.publish(session.state.target)
            session.result.live = session.state.live
            if was_ours or self.switched:
                session.result.again = ServedAgain()
            tell(f"{session.state.shown} is live again")
        self.went_back = self.switched and not was_ours and session.settings.confirm is not None
        return self.silence if self.went_back else ""

    def serve_again(self) -> None:
        """Have the services take up what is live again, where the link was put back."""
        again, tree = self.session.result.again, tree_before(self.session)
        if again is None:
            return
        if tree is None:
            self.session.host.note(
                "warn",
                "nothing is live now; services were not told, and may go on with what they have loaded",
            )
            return
        self.services.serve_again(tree, again, self._done_by_the_host)

    def _arm(self, record: Record | None) -> None:
        session, confirm = self.session, self.session.settings.confirm
        if confirm is None:
            return
        bad = [replace(record.become(records.BAD), note=self.silence)] if record else []
        before = tree_before(session)
        timer = deadman.Timer(
            self.release,
            session.state.target,
            session.lock.owner_file,
            confirm.within,
            records.write(session.layout, *bad),
            self.services.after_switch_again(before) if before else [],
            int(session.settings.ssh.command_timeout),
        )
        deadman.arm(session.host, session.jobs, session.layout, timer)

    def _done_by_the_host(self) -> bool:
        """Whether the dead man's switch has run the hooks in what is live again, to their good end."""
        session = self.session
        done = deadman.outcome(session.host, session.jobs, session.layout) if self.went_back else None
        return done is not None and done.left == self.release and done.hooks == went_back.OK

    def _leave_to_others(self, seen: str | None, was_ours: bool) -> None:
        """The lock is somebody else's: what is live is theirs to decide."""
        result = self.session.result
        result.live = posixpath.basename(seen) if seen else None
        if was_ours:
            raise LockLost(
                f"{self.release} is live on {self.session.host.name}, and was not put back.",
                "the lock was broken after the switch, so it is for somebody else to change anything there",
                "Ask who broke it.",
            )


_SERVED = {
    ("hooks", "ok"): "its after_switch hooks have run",
    ("hooks", "failed"): "its after_switch hooks failed",
    ("hooks", UNKNOWN): "whether its after_switch hooks ran is not known",
    ("health", "ok"): "it is healthy",
    ("health", "failed"): "it is not healthy either",
    ("health", UNKNOWN): "its health could not be checked",
}


def served(result: HostResult, before: State) -> str:
    """What is live, and what is known about its being served: a phrase for a person."""
    live, again = result.live, result.again
    if live == UNKNOWN:
        return f"it is not known what is live: {result.release}, or {before.shown}"
    shown = before.shown if live == before.live else live or "nothing"
    if again is None:
        return f"{shown} is live"
    if before.target is None:
        return "nothing is live, as before; services were not told"
    phrases = [_SERVED.get(("hooks", again.hooks)), _SERVED.get(("health", again.health))]
    if again.may_serve_other:
        phrases.append(f"services may still run {result.release}")
    return "; ".join([f"{shown} is live again", *filter(None, phrases)])
