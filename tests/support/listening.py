"""What a caller of the Python API hears and reads: events, notes, errors."""

from __future__ import annotations

from collections.abc import Callable

from fabfile.errors import SwitchoverError
from fabfile.events import Event, Note, StepFinished, StepStarted


class Listener:
    """Does something each time that one of these steps begins; keeps what was noted."""

    def __init__(self, **when: Callable[[], object]) -> None:
        self.when = when
        self.begun: list[str] = []
        self.finished: dict[str, str] = {}
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, StepFinished):
            self.finished[event.step] = event.detail
        elif isinstance(event, StepStarted):
            self.begun.append(event.step)
            if event.step in self.when:
                self.when[event.step]()


def explained(error: SwitchoverError | None, *words: str) -> None:
    """Each of these words is in what a person reads."""
    assert error is not None
    told = f"{error.what}\n{error.why}\n{error.hint}"
    missing = [word for word in words if word not in told]
    assert not missing, f"{missing} is not in:\n{told}"
