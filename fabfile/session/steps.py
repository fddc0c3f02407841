"""Several steps of one host that travel in one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import SwitchoverError
from ..events import StepStarted

if TYPE_CHECKING:
    from .session import HostSession


class Steps:
    """Several steps in one batch: each is told as it begins and ends.

    names: the step of each part. details: by step, the phrase told about it,
    from what its last part printed.
    """

    def __init__(self, work: HostSession, names: Sequence[str]) -> None:
        self.work = work
        self.names = names
        self.details: dict[str, Callable[[str], str]] = {}
        self.at = 0
        self.started = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the batch runs."""
        self._start()
        try:
            yield
        except SwitchoverError as error:
            name = self.names[min(self.at, len(self.names) - 1)]
            raise self.work.failed(name, self.started, error) from error

    def ended(self, part: int, said: bytes) -> None:
        """A part has ended. Called by the thread that reads the output, for a part run again too."""
        if part < self.at or part >= len(self.names):
            return
        name, last = self.names[part], part + 1 == len(self.names)
        if last or self.names[part + 1] != name:
            tell = self.details.get(name)
            self.work.finished(name, self.started, tell(said.decode("utf-8", "replace")) if tell else "")
            self.at = part + 1
            if not last:
                self._start()

    def _start(self) -> None:
        self.started = time.monotonic()
        self.work.host.emit(StepStarted(self.work.host.name, self.names[self.at]))
