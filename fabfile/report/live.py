"""What is seen while the work goes on: bars on a terminal, elsewhere a line for each thing that ended."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Any

from ..events import Event, Note, Output, Progress, StepFailed, StepFinished, StepStarted, Waiting, size
from ..redaction import REMOVED, KeyBlocks, clean
from .screen import Screen

BETWEEN_STEPS = 1.0  # seconds without a step after which a host is shown as waiting
PLAIN_EVERY = 10.0  # seconds without a line, where there is no terminal, until one says what goes on


class Live:
    """Listens to events and shows them while the work goes on."""

    def __init__(self, to_stderr: bool = False) -> None:
        self.screen = Screen(to_stderr)
        self.lock = threading.Lock()
        self.view: _Bars | _Lines = _Bars(self.screen) if self.screen.is_terminal else _Lines(self.screen)
        self.keys: dict[tuple[str, str], KeyBlocks] = {}
        self.noted: set[tuple[str, str]] = set()
        self.ended = threading.Event()

    def __enter__(self) -> Live:
        self.view.start()
        threading.Thread(target=self._watch, name="live", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        with self.lock, contextlib.suppress(Exception):
            self.view.stop()

    def listen(self, event: Event) -> None:
        """Show one event; called from several threads. What can't be shown must not fail the work."""
        with self.lock, contextlib.suppress(Exception):
            if isinstance(event, StepStarted):
                self.view.started(event)
            elif isinstance(event, Progress):
                self.view.progress(event)
            elif isinstance(event, StepFinished):
                self.view.finished(event)
            elif isinstance(event, Waiting):
                self.view.waiting(event)
            elif isinstance(event, Output):
                self._output(event)
            else:
                self._say(event)

    def _output(self, event: Output) -> None:
        keys = self.keys.setdefault((event.host, event.step), KeyBlocks())
        line = keys.line(event.line)
        self.view.said(event.host)
        if line is not None:
            self.screen.output(f"{event.host} │ ", f"{line} {REMOVED}" if keys.inside else line)

    def _say(self, event: StepFailed | Note) -> None:
        if isinstance(event, StepFailed):
            self.view.ended(event.host)
            self.screen.beside((f"{event.host}  ✗ {event.step}  ", "red"), text=event.what)
        elif (event.host, event.text) not in self.noted:  # the same thing, said at each command
            self.noted.add((event.host, event.text))
            mark, style = ("!", "yellow") if event.level == "warn" else ("·", "dim")
            self.screen.beside((f"{event.host}  {mark} ", style), text=" ".join(event.text.split("\n")))

    def _watch(self) -> None:
        while not self.ended.wait(min(1.0, PLAIN_EVERY / 2)):
            with self.lock, contextlib.suppress(Exception):
                self.view.tick(time.monotonic())


class _Lines:
    """A line for each thing that ended, and now and then one about what goes on."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.running: dict[str, tuple[str, float]] = {}  # host -> its step, since when
        self.last_shown: dict[str, float] = {}  # host -> when the last line about it was shown
        self.how: dict[str, str] = {}  # host -> how far the step is

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to tidy."""

    def started(self, event: StepStarted) -> None:
        now = time.monotonic()
        self.running[event.host] = (event.step, now)
        self.last_shown[event.host] = now
        self.how.pop(event.host, None)

    def progress(self, event: Progress) -> None:
        self.how[event.host] = _share(event)

    def waiting(self, event: Waiting) -> None:
        self.how[event.host] = f"{event.what}  {event.passed:.0f} of {event.total:.0f} s"

    def said(self, host: str) -> None:
        self.last_shown[host] = time.monotonic()

    def ended(self, host: str) -> None:
        self.running.pop(host, None)

    def finished(self, event: StepFinished) -> None:
        self.ended(event.host)
        _show_finished(self.screen, event)

    def tick(self, now: float) -> None:
        """Say what goes on where nothing was said for a while: CI ends what is silent."""
        for host, (step, since) in self.running.items():
            if now - self.last_shown[host] >= PLAIN_EVERY:
                self.last_shown[host] = now
                self.screen.say(f"{host}  … {step}  {self.how.get(host) or f'{now - since:.0f} s'}")


class _Bars:
    """One line a host that changes in place; what ended scrolls by above."""

    def __init__(self, screen: Screen) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars

        self.screen = screen
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.fields[host]}", style="bold", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[how]}", markup=False),
            console=screen.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.rows: dict[str, Any] = {}
        self.idle: dict[str, float] = {}  # host -> since when it has no step

    def start(self) -> None:
        self.bars.start()

    def stop(self) -> None:
        self.bars.stop()

    def started(self, event: StepStarted) -> None:
        row, step, host = self.rows.get(event.host), clean(event.step), clean(event.host)
        self.idle.pop(event.host, None)
        if row is None:
            self.rows[event.host] = self.bars.add_task(step, total=None, host=host, how="")
        else:
            self.bars.reset(row, description=step, host=host, how="")
            self._task(event.host).total = None  # which reset() does not do

    def progress(self, event: Progress) -> None:
        self.bars.update(self.rows[event.host], total=event.total, completed=event.done)
        task = self._task(event.host)
        speed = f", {size(int(task.speed))}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
        self.bars.update(task.id, how=f"{size(event.done)} of {size(event.total)}{speed}{left}")

    def waiting(self, event: Waiting) -> None:
        self.bars.update(
            self.rows[event.host],
            total=event.total,
            completed=event.passed,
            description=f"watching {clean(event.what)}",
            how=f"{event.passed:.0f} of {event.total:.0f} s",
        )

    def said(self, host: str) -> None:
        """The bar moves anyway."""

    def ended(self, host: str) -> None:
        self.idle[host] = time.monotonic()

    def finished(self, event: StepFinished) -> None:
        self.ended(event.host)
        _show_finished(self.screen, event)

    def tick(self, now: float) -> None:
        """Say for how long a step goes on that does not say how far it is; and who waits for other hosts."""
        for host, row in self.rows.items():
            task = self._task(host)
            if now - self.idle.get(host, now) > BETWEEN_STEPS:
                task.total = None
                self.bars.update(row, description="waits", how="")
            elif task.total is None and host not in self.idle:
                self.bars.update(row, how=f"{task.elapsed or 0:.0f} s")

    def _task(self, host: str) -> Any:
        return next(task for task in self.bars.tasks if task.id == self.rows[host])


def _show_finished(screen: Screen, event: StepFinished) -> None:
    took = f"{event.host}  ✓ {event.step:<13} {event.seconds:7.2f} s"
    if event.detail:
        screen.beside(f"{took}  ", text=event.detail)
    else:
        screen.say(took)


def _share(event: Progress) -> str:
    share = 100 * event.done // event.total if event.total else 100
    return f"{share} %, {event.files} of {event.total_files} files, {size(event.done)} of {size(event.total)}"
