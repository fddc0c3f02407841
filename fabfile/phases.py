"""The phases of a command: each on all hosts before the next, and undone where one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .aftermath import differ, may_serve_other, served_by_phrase
from .commands.release import Command, Release
from .errors import Refused, SwitchoverError
from .on_host.records import Record
from .parallel import Fleet, OnHost
from .results import Outcome
from .session.opening import Requirement, look, open_session, unlock
from .session.session import HostAccess, HostSession, HostView

if TYPE_CHECKING:
    from .commands.cache_sync import CacheSync
    from .commands.rollback import GoBack

W = TypeVar("W", bound=OnHost)
T = TypeVar("T")

# (host, phase): called before a phase, in a thread for each host; what it raises refuses the phase.
OnPhase = Callable[[str, str], object]


@dataclass(frozen=True)
class Phase(Generic[W, T]):
    """One phase of a command.

    do:   what each host does; what it gives is what the host is worked on with from then on.
    undo: what takes that back where the command fails, on every host that has begun the phase: one after
          the other, each on all hosts before the next.
    stop_others: a host that fails keeps the others from starting their next step.
    """

    name: str
    do: Callable[[W], T]
    undo: tuple[Callable[[W], None], ...] = ()
    stop_others: bool = True


SWITCH = Phase[Release, None](
    "switch",
    lambda work: work.switch(),
    undo=(
        lambda work: work.switch_back(),
        lambda work: work.serve_again(),
    ),
)
GOING_LIVE: tuple[Phase[Release, None], ...] = (
    Phase("prepare", lambda work: work.prepare(), undo=(lambda work: work.abandon(),)),
    SWITCH,
    Phase("prove", lambda work: work.prove(), stop_others=False),
    Phase("confirm", lambda work: work.confirm(), stop_others=False),
)


def release(fleet: Fleet, command: Command[Release], on_phase: OnPhase | None = None) -> Outcome:
    """Make a release live on all hosts; where a phase fails, all that were begun are undone."""
    run = Run(fleet, on_phase)
    works: list[Release] = []
    try:
        sessions = run.phase(_opening(command.require), fleet.accesses)
        chosen = run.together(lambda: command.choose(sessions))
        beginning = Phase[HostSession, Release]("begin", lambda session: command.begin(session, chosen))
        works = run.phase(beginning, sessions)
        for phase in GOING_LIVE:
            run.phase(phase, works)
    except PhaseFailed:
        # A host on which the deployment that is resumed had switched goes back with the others.
        run.count_as_begun(SWITCH, [work for work in works if work.live.switched])
        return _put_back(run, works)
    fleet.decide()
    for work in fleet.each(lambda work: work.finish(), works, stop_others=False).failed:
        # The release is live and proven: what could not be tidied does not make it a failure.
        error = fleet.last[work.steps.host.name]
        work.steps.host.note("warn", f"live, but cleaning up failed: {error.what} {error.why}")
        work.steps.result.ok = True
    return fleet.outcome()


def foresee(fleet: Fleet, command: GoBack) -> Outcome:
    """Only find out which release a rollback would go back to."""
    run = Run(fleet)
    try:
        views = run.phase(Phase[HostAccess, HostView]("look", look), fleet.accesses)
        chosen = run.together(lambda: command.choose(views))
        run.phase(Phase[HostView, Record]("find", lambda view: command.find(view, chosen)), views)
    except PhaseFailed:
        pass  # the results say why
    return fleet.outcome()


def sync(fleet: Fleet, command: CacheSync) -> Outcome:
    """Bring the caches of all hosts up to the source."""
    run = Run(fleet)
    try:
        sessions = run.phase(_opening(command.require), fleet.accesses)
        run.phase(Phase[HostSession, None]("sync", command.sync), sessions)
        run.phase(Phase[HostAccess, None]("unlock", unlock), fleet.accesses)
    except PhaseFailed:
        run.undo()
    return fleet.outcome()


def _opening(require: Requirement) -> Phase[HostAccess, HostSession]:
    return Phase("open", lambda access: open_session(access, require), undo=(unlock,))


class PhaseFailed(Exception):
    """A phase has failed on some host; the results of the hosts say why."""


class Run:
    """The phases of one command that were begun, so that they can be undone."""

    def __init__(self, fleet: Fleet, on_phase: OnPhase | None = None) -> None:
        self.fleet = fleet
        self.on_phase = on_phase
        self.begun: list[tuple[Phase[Any, Any], Sequence[Any]]] = []

    def phase(self, phase: Phase[W, T], works: Sequence[W]) -> list[T]:
        """Run a phase on these hosts. Raises PhaseFailed where it has failed, or is refused, on any."""
        if self.on_phase and self.fleet.each(_asking(self.on_phase, phase.name), works).failed:
            raise PhaseFailed
        self.begun.append((phase, works))
        done = self.fleet.each(phase.do, works, stop_others=phase.stop_others)
        if done.failed:
            raise PhaseFailed
        return done.results

    def count_as_begun(self, phase: Phase[W, T], works: Sequence[W]) -> None:
        """Have a phase undone on these hosts though this command has not come to it."""
        if all(begun is not phase for begun, _ in self.begun):
            self.begun.append((phase, works))

    def together(self, decide: Callable[[], T]) -> T:
        """A decision about all hosts; when it fails, all have failed with it: raises PhaseFailed."""
        try:
            return decide()
        except SwitchoverError as error:
            for access in self.fleet.accesses:
                access.steps.result.ok = False
                access.steps.result.error = error
            raise PhaseFailed from error

    def undo(self) -> dict[str, list[str]]:
        """Undo what was begun, the last first. A host where that fails is left as it is: by phase, their
        names.
        """
        stuck: dict[str, list[str]] = {}
        for phase, works in reversed(self.begun):
            for undo in phase.undo:
                left = {name for names in stuck.values() for name in names}
                among = [work for work in works if work.steps.host.name not in left]
                failed = self.fleet.each(undo, among, always=True).failed
                stuck.setdefault(phase.name, []).extend(work.steps.host.name for work in failed)
        return stuck


def _asking(on_phase: OnPhase, phase: str) -> Callable[[OnHost], None]:
    """What asks a script about one host. Raises Refused for whatever that raises, sys.exit() included."""

    def ask(work: OnHost) -> None:
        host = work.steps.host.name
        try:
            on_phase(host, phase)
        except (Exception, SystemExit) as error:
            raise Refused(
                f"The script has refused the phase {phase} of {host}.",
                f"on_phase raised {type(error).__name__}: {error}",
                "See what the script wants there; nothing was wrong with the host.",
                phase=phase,
            ) from error

    return ask


def _put_back(run: Run, works: Sequence[Release]) -> Outcome:
    """Put back what was live, have it served again, and say of each host what is served now."""
    left = run.undo().get("switch", [])
    outcome = run.fleet.outcome()
    stuck = [work for work in works if work.steps.host.name in left]
    unsure = [work for work in works if work not in stuck and may_serve_other(work)]
    if stuck or unsure:
        outcome.exit_code = 4
        outcome.error = differ(run.fleet, works, stuck, unsure, outcome.error)
    elif any(work.live.switched or work.steps.result.again for work in works):
        outcome.exit_code = 3
        outcome.served = served_by_phrase(works)
    return outcome
