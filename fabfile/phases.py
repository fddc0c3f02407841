"""All hosts of one command, phase by phase: each phase on all of them before the next; and the ways back."""

from __future__ import annotations

import os
import shlex
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from . import interruption
from .errors import (
    CommandFailed,
    CommandTimedOut,
    ConnectionFailed,
    ConnectionLost,
    FilesError,
    HostKeyRefused,
    HostNotReady,
    JobLost,
    Stopped,
    SwitchoverError,
)
from .hosts import AT_ONCE
from .local import last_failure
from .results import Outcome
from .session.going_live import Switching
from .session.session import HostSession
from .typed import Typed

W = TypeVar("W", bound=HostSession)

FAB = Typed()


def _bug(error: Exception) -> SwitchoverError:
    if os.environ.get("SWITCHOVER_DEBUG"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return SwitchoverError(
        "Switchover itself made a mistake.",
        f"{type(error).__name__}: {error} ({where})",
        "Please report it; SWITCHOVER_DEBUG=1 shows where it happened.",
    )


# Errors whose cause lies in the host or on the way to it: what a diagnosis looks into.
EXAMINABLE = (
    CommandFailed, CommandTimedOut, ConnectionFailed, ConnectionLost, FilesError, HostNotReady, JobLost,
)  # fmt: skip


def _remember(work: HostSession, typed: Typed) -> None:
    """Keep what was seen of a failure for `fab diagnose`, and say so; forget it once a switch has worked."""
    error, address = work.result.error, work.host.connection.address
    if isinstance(error, EXAMINABLE) and not isinstance(error, HostKeyRefused):
        phase = work.result.failed_in or "connect"
        lasted = round(sum(work.result.phases.values()), 1)
        last_failure.write(address, phase, error, seconds=lasted, reconnects=work.result.reconnects)
        if not error.look:  # several hosts may share one error
            error.look = typed.line(address, work.host.identity, "diagnose")
            error.hint = (
                f"{error.hint}\nIt failed in {phase}. This looks for the cause:\n{error.look}".lstrip()
            )
    elif error is None and "switch" in work.result.phases:
        last_failure.forget(address)


class Fleet(Generic[W]):
    """The hosts of one command, worked on in parallel."""

    def __init__(self, works: list[W], halt: threading.Event, typed: Typed = FAB) -> None:
        self.works = works
        self.typed = typed
        self.halt = halt
        self.last: dict[str, SwitchoverError] = {}  # by host: what failed last
        self.interrupted = threading.Event()
        self.decided = False  # what is under way now runs to its end: the ways back, and tidying up
        interruption.current.at_work(self.stop)
        for work in works:
            work.host.connection.interrupted = self.interrupted

    def stop(self) -> None:
        """Have the work end at its next breath, unless it is decided what becomes of the hosts."""
        if not self.decided:
            self.interrupted.set()
            self.halt.set()

    def decide(self) -> None:
        """From here on no interruption and no other host's failure keeps anything from running."""
        self.decided = True
        self.halt.clear()
        self.interrupted.clear()

    def each(
        self,
        do: Callable[[W], None],
        *,
        among: Sequence[W] | None = None,
        stop_others: bool = True,
        always: bool = False,
    ) -> list[W]:
        """Run `do` for each host in a thread of its own; those that failed, their first error kept.

        stop_others: one failure keeps the others from starting their next step. always: not even an
        earlier failure or an interruption keeps this from running (ways back), nor that of another host.
        """
        if always:
            self.decide()
        works = list(self.works if among is None else among)
        if not works:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(works))) as pool:
            futures = {pool.submit(self._one, do, work, stop_others and not always): work for work in works}
            self._wait(list(futures))
        return [work for future, work in futures.items() if not future.result()]

    def _one(self, do: Callable[[W], None], work: W, stop_others: bool) -> bool:
        try:
            do(work)
            return True
        except SwitchoverError as error:
            told = work.lock_lost(error)
        except Exception as error:  # noqa: BLE001  (a bug of ours must not leave hosts locked or half switched)
            told = _bug(error)
        work.result.ok = False
        self.last[work.host.name] = told
        work.result.error = work.result.error or told
        if stop_others:
            self.halt.set()
        return False

    def _wait(self, futures: list[Future[bool]]) -> None:
        """Wait for all; a Ctrl-C stops the work at its next breath. The ways back go on whatever comes."""
        while True:
            try:
                wait(futures)
                return
            except KeyboardInterrupt:  # of a script, which has no handler of ours
                self.stop()

    def try_all(self, decide: Callable[[], object]) -> list[W]:
        """A decision about all hosts; when it fails, all have failed with it."""
        try:
            decide()
            return []
        except SwitchoverError as error:
            for work in self.works:
                work.result.ok = False
                work.result.error = error
            return self.works

    def outcome(self, failed: Sequence[W] = (), also: Sequence[W] = ()) -> Outcome:
        """Sum up."""
        interruption.current.over()
        for work in self.works:
            work.lease.stop()
            work.result.reconnects = work.host.connection.reconnects
            _remember(work, self.typed)
        results = [work.result for work in self.works]
        if not failed and not also:
            return Outcome(0, None, results)
        errors = [result.error for result in results if result.error]
        first = next(
            (error for error in errors if not isinstance(error, Stopped)), errors[0] if errors else None
        )
        for result in results:
            result.ok = False
        return Outcome(first.exit_code if first else 1, first, results)


def release(fleet: Fleet[Any], choose: Callable[[list[Any]], str]) -> Outcome:
    """The five phases, each on all hosts before the next; and the ways back."""
    chosen: list[str] = []
    failed = (
        fleet.each(lambda work: work.begin())
        or fleet.try_all(lambda: chosen.append(choose(fleet.works)))
        or fleet.each(lambda work: work.prepare(chosen[0]))
    )
    if failed:
        return fleet.outcome(failed, fleet.each(lambda work: work.abandon(), always=True))
    failed = (
        fleet.each(lambda work: work.switch())
        or fleet.each(lambda work: work.prove(), stop_others=False)
        or fleet.each(lambda work: work.confirm(), stop_others=False)
    )
    if failed:
        return _put_back(fleet, failed)
    fleet.decide()
    for work in fleet.each(lambda work: work.finish(), stop_others=False):
        # The release is live and proven: what could not be tidied does not make it a failure.
        work.host.note(
            "warn", f"live, but not all is tidied: {work.result.error.what} {work.result.error.why}"
        )
        work.result.ok = True
    return fleet.outcome()


def _put_back(fleet: Fleet[Any], failed: list[Switching]) -> Outcome:
    """Put back what was live, have it served again, and say of each host what is served now."""
    any_switched = any(work.switched for work in fleet.works)
    tried = [work for work in fleet.works if work.tried_to_switch]
    stuck = fleet.each(lambda work: work.switch_back(), among=tried, always=True)
    back = [work for work in fleet.works if work.result.again is not None]
    fleet.each(lambda work: work.serve_again(), among=back, always=True)
    fleet.each(lambda work: work.abandon(), among=[w for w in fleet.works if w not in stuck], always=True)
    outcome = fleet.outcome(failed)
    unsure = [work for work in back if work.result.again.may_serve_other]
    if stuck or unsure:
        outcome.exit_code = 4
        outcome.error = _differ(fleet, stuck, unsure, outcome.error)
    elif any_switched:
        outcome.exit_code = 3
        if outcome.error:  # the same object as the host's own: it is told once
            outcome.error.why = "\n".join(filter(None, [outcome.error.why, *_served(fleet.works)]))
    return outcome


def _served(works: Sequence[Switching]) -> list[str]:
    """What is served now: a line for all hosts of which the same is true."""
    by_phrase: dict[str, list[str]] = {}
    for work in works:
        by_phrase.setdefault(work.served, []).append(work.host.name)
    return [f"{', '.join(names)}: {phrase}" for phrase, names in by_phrase.items()]


def _differ(
    fleet: Fleet[Any], stuck: list[Switching], unsure: list[Switching], first: SwitchoverError | None
) -> SwitchoverError:
    lines = [
        f"{w.host.name}: switched to {w.result.release}, could not be put back: "
        f"{_told(fleet.last.get(w.host.name))}"
        for w in stuck
    ]
    lines += [f"{work.host.name}: {work.served}" for work in fleet.works if work not in stuck]
    lines += [f"{w.host.name}: {_told(w.result.again.error)}" for w in unsure if w.result.again]
    steps = [line for work in stuck for line in _ways_back(fleet.typed, work)]
    hint = ["When the hosts answer again, type:", *steps] if stuck else []
    if unsure:
        hint.append("Run the after_switch hooks by hand, in what is live:")
        hint += [f"{_login(work)}  # {work.layout.current}" for work in unsure]
    return SwitchoverError(
        "The hosts differ now, and this needs a person.",
        "\n".join([*lines, f"first error: {_told(first)}"]),
        "\n".join(hint),
    )


def _told(error: SwitchoverError | None) -> str:
    return f"{error.what} {error.why}" if error else "unknown"


def _ways_back(typed: Typed, work: Switching) -> list[str]:
    """What to type for a host that could not be put back; nor could the lock be given back there."""
    address, identity = work.host.connection.address, work.host.identity
    unlock = typed.line(address, identity, "unlock", "--force")
    if work.state.live:
        return [unlock, typed.line(address, identity, "rollback", "--to", work.state.live)]
    if work.state.target is None:
        return [unlock, f"{_login(work)} {shlex.quote(shlex.join(['rm', work.layout.current]))}"]
    # What was live is not ours: no rollback of ours leads there.
    link = shlex.join(["ln", "-sfn", work.state.target, work.layout.current])
    return [unlock, f"{_login(work)} {shlex.quote(link)}"]


def _login(work: Switching) -> str:
    connection, identity = work.host.connection, work.host.identity
    key = ["-i", identity] if identity else []
    return shlex.join(["ssh", "-p", str(connection.port), *key, f"{connection.user}@{connection.host}"])
