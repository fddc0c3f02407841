"""The hosts of one command, worked on in parallel, and what became of them."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from . import interruption
from .errors import (
    AnswerNotUnderstood,
    CommandFailed,
    CommandTimedOut,
    ConnectionFailed,
    ConnectionLost,
    FilesError,
    HostKeyRefused,
    HostNotReady,
    JobLost,
    OwnMistake,
    Stopped,
    SwitchoverError,
)
from .hosts import AT_ONCE
from .local import last_failure
from .results import Outcome
from .session.session import HostAccess
from .session.steps import Steps
from .typed import Typed

FAB = Typed()

# Errors whose cause lies in the host or on the way to it: what a diagnosis looks into.
EXAMINABLE = (
    CommandFailed,
    CommandTimedOut,
    ConnectionFailed,
    ConnectionLost,
    FilesError,
    HostNotReady,
    JobLost,
    AnswerNotUnderstood,
)
DIAGNOSE = ("diagnose",)


class OnHost(Protocol):
    """What is worked on at one host: first the way to it, then a session, then a release."""

    @property
    def steps(self) -> Steps:
        """Its steps; they know the host, and what becomes of it."""


W = TypeVar("W", bound=OnHost)
T = TypeVar("T")


class Done(NamedTuple, Generic[W, T]):
    """What came of one piece of work on several hosts: results in their order, and those that failed."""

    results: list[T]
    failed: list[W]


class Fleet:
    """The hosts of one command, worked on in parallel."""

    def __init__(self, accesses: Sequence[HostAccess], halt: threading.Event, typed: Typed = FAB) -> None:
        self.accesses = list(accesses)
        self.typed = typed
        self.halt = halt
        self.last: dict[str, SwitchoverError] = {}  # by host: what failed last
        self.interrupted = threading.Event()
        self.decided = False  # what is under way now runs to its end: the ways back, and tidying up
        interruption.current.at_work(self.stop)
        for access in self.accesses:
            access.host.connection.interrupted = self.interrupted

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
        do: Callable[[W], T],
        works: Sequence[W],
        *,
        stop_others: bool = True,
        always: bool = False,
    ) -> Done[W, T]:
        """Run `do` for each host in a thread of its own; the first error of those that failed is kept.

        stop_others: see Phase. always: not even an earlier failure or an interruption keeps this from running
        (ways back), nor that of another host.
        """
        if always:
            self.decide()
        if not works:
            return Done([], [])
        results: dict[int, T] = {}

        def one(number: int) -> None:
            try:
                results[number] = do(works[number])
            except SwitchoverError as error:
                self._failed(works[number], works[number].steps.explain(error), stop_others and not always)
            # A bug of ours, or a listener that calls sys.exit(): no host must stay locked or half switched.
            except BaseException as error:  # noqa: BLE001
                self._failed(works[number], _bug(error), stop_others and not always)

        with ThreadPoolExecutor(min(AT_ONCE, len(works))) as pool:
            self._wait([pool.submit(one, number) for number in range(len(works))])
        failed = [work for number, work in enumerate(works) if number not in results]
        return Done([results[number] for number in sorted(results)], failed)

    def _failed(self, work: OnHost, error: SwitchoverError, stop_others: bool) -> None:
        work.steps.result.fail(error)
        self.last[work.steps.host.name] = error
        if stop_others:
            self.halt.set()

    def _wait(self, futures: Sequence[Any]) -> None:
        """Wait for all; a Ctrl-C stops the work at its next breath. The ways back go on whatever comes."""
        while True:
            try:
                wait(futures)
                return
            except KeyboardInterrupt:  # of a script, which has no handler of ours
                self.stop()

    def outcome(self) -> Outcome:
        """Sum up."""
        interruption.current.over()
        results = [access.steps.result for access in self.accesses]
        for access in self.accesses:
            access.lease.stop()
            access.steps.result.reconnects = access.host.connection.reconnects
            _remember(access)
        _complete_hints(self.accesses, self.typed)
        if all(result.ok for result in results):
            return Outcome(0, None, results)
        errors = [result.error for result in results if result.error]
        first = next(
            (error for error in errors if not isinstance(error, Stopped)), errors[0] if errors else None
        )
        for result in results:
            result.ok = False
        return Outcome(first.exit_code if first else 1, first, results)


def _bug(error: BaseException) -> SwitchoverError:
    if os.environ.get("SWITCHOVER_DEBUG"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return OwnMistake(
        "Switchover itself made a mistake.",
        f"{type(error).__name__}: {error} ({where})",
        "Please report it; SWITCHOVER_DEBUG=1 shows where it happened.",
    )


def _remember(access: HostAccess) -> None:
    """Keep what was seen of a failure for `fab diagnose`, and say so; forget it once a switch has worked."""
    result, address = access.steps.result, access.host.connection.address
    error = result.error
    if isinstance(error, (*EXAMINABLE, OwnMistake)) and not isinstance(error, HostKeyRefused):
        phase = error.step or "connect"
        transport = access.host.connection.transport
        last_failure.write(
            address, phase, error,
            seconds=round(sum(result.phases.values()), 1),
            phases={step: round(took, 2) for step, took in result.phases.items()},
            reconnects=result.reconnects,
            losses=access.host.losses,
            bytes_uploaded=result.bytes_uploaded,
            files_uploaded=result.files_uploaded,
            transfer=result.transfer,
            server=getattr(transport, "remote_version", ""),
        )  # fmt: skip
        if not error.task and not isinstance(error, OwnMistake):  # several hosts may share one error
            error.task = DIAGNOSE
            error.hint = f"{error.hint}\nIt failed in {phase}. This looks for the cause:".lstrip()
    elif error is None and "switch" in result.phases:
        last_failure.forget(address)


def _complete_hints(accesses: Sequence[HostAccess], typed: Typed) -> None:
    """End the hint of each error with the line to type. One host is enough to look for a cause; what helps is
    done on all that need it.
    """
    needing: dict[object, list[HostAccess]] = {}
    for access in accesses:
        if (error := access.steps.result.error) and error.task:
            needing.setdefault(id(error) if error.task == DIAGNOSE else error.task, []).append(access)
    for group in needing.values():
        addresses = ",".join(access.host.connection.address for access in group)
        for error in {id(e): e for access in group if (e := access.steps.result.error)}.values():
            line = typed.line(addresses, group[0].host.identity, *error.task)
            error.commands.append(line)
            error.hint = f"{error.hint}\n{line}".lstrip()
