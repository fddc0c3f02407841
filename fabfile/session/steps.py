"""The named steps of one host: timed, told, and not begun once the command is to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

from .. import interruption
from ..errors import Stopped, SwitchoverError
from ..events import StepFailed, StepFinished, StepStarted
from ..remote.host import Host
from ..results import HostResult

Tell = Callable[[str], None]  # sets the phrase that is told when a step has ended


class Steps:
    """The steps that one command takes on one host.

    halt: set when another host has failed; the next step then does not start.
    explain: gives the error that one which ended a step really is: LockLost, where somebody broke our lock.
    """

    def __init__(
        self,
        host: Host,
        result: HostResult,
        halt: threading.Event,
        explain: Callable[[SwitchoverError], SwitchoverError],
    ) -> None:
        self.host = host
        self.result = result
        self.halt = halt
        self.explain = explain

    @contextmanager
    def step(self, name: str) -> Iterator[Tell]:
        """One step. Raises Stopped where it is not to begin."""
        if self.halt.is_set():
            if asked := interruption.current.asked:
                raise Stopped(f"Interrupted before {name}.", asked, "Run the same command again to go on.")
            raise Stopped(f"{self.host.name} was stopped before {name}, because another host failed.")
        started, detail = self.began(name), [""]
        try:
            yield lambda text: detail.__setitem__(0, text)
        except SwitchoverError as error:
            self.failed(name, started, error)
        self.finished(name, started, detail[0])

    def began(self, name: str) -> float:
        """Tell that a step has begun; when that was, by time.monotonic()."""
        self.host.emit(StepStarted(self.host.name, name))
        return time.monotonic()

    def finished(self, name: str, started: float, detail: str = "") -> None:
        """Tell that a step has ended well."""
        self.host.emit(StepFinished(self.host.name, name, self._took(name, started), detail))

    def failed(self, name: str, started: float, error: SwitchoverError) -> NoReturn:
        """Tell that a step has failed, and raise the error as what it really is."""
        explained = self.explain(error)
        explained.step = explained.step or name
        self.host.emit(StepFailed(self.host.name, name, self._took(name, started), explained.what))
        if explained is error:
            raise error
        raise explained from error

    def _took(self, name: str, started: float) -> float:
        seconds = time.monotonic() - started
        self.result.phases[name] = round(self.result.phases.get(name, 0) + seconds, 3)
        return seconds


class BatchedSteps:
    """Several steps whose scripts travel in one batch: each is told as it begins and ends.

    names: the step of each script. details: by step, the phrase told about it, from what its last script
    printed.
    """

    def __init__(
        self, steps: Steps, names: Sequence[str], details: Mapping[str, Callable[[str], str]] | None = None
    ) -> None:
        self.steps = steps
        self.names = names
        self.details = details or {}
        self.at = 0
        self.started = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the batch runs."""
        self.started = self.steps.began(self.names[0])
        try:
            yield
        except SwitchoverError as error:
            name = self.names[min(self.at, len(self.names) - 1)]
            self.steps.failed(name, self.started, error)

    def ended(self, part: int, said: bytes) -> None:
        """A script has ended. Called by the thread that reads the output, for one that is run again too."""
        if part < self.at or part >= len(self.names):
            return
        name, last = self.names[part], part + 1 == len(self.names)
        if last or self.names[part + 1] != name:
            phrase = self.details.get(name)
            self.steps.finished(name, self.started, phrase(said.decode("utf-8", "replace")) if phrase else "")
            self.at = part + 1
            if not last:
                self.started = self.steps.began(self.names[self.at])
