"""What a person sees: live progress on a terminal, plain lines elsewhere, a summary at the end."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..events import Event, Note, Output, Progress, StepFailed, StepFinished, StepStarted, Waiting, count

if TYPE_CHECKING:
    from rich.console import Console

    from ..fleet import Holding, Listing, Outcome

PLAIN_EVERY = 10.0  # seconds between lines about one upload, where there is no terminal


def make_console(to_stderr: bool = False) -> Console:
    """A console on stdout or stderr; without a terminal, long lines stay whole."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    return Console(stderr=to_stderr, highlight=False, width=None if stream.isatty() else 200, soft_wrap=True)


class Live:
    """Listens to events and shows them while the work goes on."""

    def __init__(self, title: str, to_stderr: bool = False, clock: bool = False) -> None:
        self.title = title
        self.console = make_console(to_stderr)
        self.lock = threading.Lock()
        self.view: _Bars | _Lines = (
            _Bars(self.console, clock) if self.console.is_terminal else _Lines(self.console)
        )

    def __enter__(self) -> Live:
        self.view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.view.stop()

    def listen(self, event: Event) -> None:
        """Show one event; called from several threads. A reader that has gone must not fail the work."""
        with self.lock, contextlib.suppress(BrokenPipeError):
            if isinstance(event, StepStarted):
                self.view.started(event)
            elif isinstance(event, Progress):
                self.view.progress(event)
            elif isinstance(event, StepFinished):
                self.view.finished(event)
            elif isinstance(event, Waiting):
                self.view.waiting(event)
            else:
                self._say(event)

    def _say(self, event: StepFailed | Output | Note) -> None:
        from rich.text import Text

        if isinstance(event, StepFailed):
            line = Text.assemble((f"{event.host}  ✗ {event.step}  ", "red"), event.what)
        elif isinstance(event, Output):
            line = Text.assemble((f"{event.host} │ ", "dim"), event.line)
        else:
            mark, style = ("!", "yellow") if event.level == "warn" else ("·", "dim")
            line = Text.assemble((f"{event.host}  {mark} ", style), event.text)
        self.view.say(line)


class _Lines:
    """A line for each thing that ended."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.told: dict[str, float] = {}

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to tidy."""

    def say(self, line: Any) -> None:
        self.console.print(line)

    def started(self, event: StepStarted) -> None:
        self.told[event.host] = time.monotonic()

    def progress(self, event: Progress) -> None:
        if time.monotonic() - self.told.get(event.host, 0.0) >= PLAIN_EVERY:
            self.told[event.host] = time.monotonic()
            self.console.print(f"{event.host}  … {event.step}  {_share(event)}")

    def finished(self, event: StepFinished) -> None:
        from rich.text import Text

        self.console.print(Text(_finished(event)))

    def waiting(self, event: Waiting) -> None:
        if time.monotonic() - self.told.get(event.host, 0.0) >= PLAIN_EVERY:
            self.told[event.host] = time.monotonic()
            self.console.print(f"{event.host}  … {event.what}  {event.passed:.0f} of {event.total:.0f} s")


class _Bars:
    """One line a host that changes in place; what ended scrolls by above."""

    def __init__(self, console: Console, clock: bool = False) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars

        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[host]}[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            *([] if clock else [DownloadColumn(), TransferSpeedColumn()]),
            TimeRemainingColumn(),
            TextColumn("{task.fields[files]}"),
            console=console,
            transient=True,
        )
        self.rows: dict[str, Any] = {}

    def start(self) -> None:
        self.bars.start()

    def stop(self) -> None:
        self.bars.stop()

    def say(self, line: Any) -> None:
        self.bars.console.print(line)

    def started(self, event: StepStarted) -> None:
        row = self.rows.get(event.host)
        if row is None:
            self.rows[event.host] = self.bars.add_task(event.step, total=None, host=event.host, files="")
        else:
            self.bars.reset(row, total=None, description=event.step, host=event.host, files="")

    def progress(self, event: Progress) -> None:
        self.bars.update(
            self.rows[event.host],
            total=event.total,
            completed=event.done,
            files=f"{event.files}/{event.total_files} files",
        )

    def waiting(self, event: Waiting) -> None:
        self.bars.update(
            self.rows[event.host],
            total=event.total,
            completed=event.passed,
            description=f"watching {event.what}",
            files=f"{event.passed:.0f} of {event.total:.0f} s",
        )

    def finished(self, event: StepFinished) -> None:
        from rich.text import Text

        self.bars.console.print(Text(_finished(event)))


def _finished(event: StepFinished) -> str:
    return f"{event.host}  ✓ {event.step:<13} {event.seconds:7.2f} s  {event.detail}".rstrip()


def _share(event: Progress) -> str:
    share = 100 * event.done // event.total if event.total else 100
    return f"{share} %, {event.files} of {event.total_files} files, {size(event.done)} of {size(event.total)}"


def size(count: int) -> str:
    """Bytes for a person: 1.2 MB."""
    import humanize

    return str(humanize.naturalsize(count))


def show_error(outcome: Outcome, to_stderr: bool = True) -> None:
    """What happened, why, what to try; each host's own where they differ."""
    from rich.text import Text

    console = make_console(to_stderr)
    seen = set()
    errors = [("", outcome.error)] if outcome.error else []
    errors += [(result.host, result.error) for result in outcome.hosts if result.error]
    for host, error in errors:
        if error is None or (error.what, error.why) in seen:
            continue
        seen.add((error.what, error.why))
        console.print(
            Text(f"\n✗ {host + ': ' if host and len(outcome.hosts) > 1 else ''}{error.what}", "bold red")
        )
        for label, text in (("why", error.why), ("try", error.hint)):
            for i, line in enumerate(text.splitlines()):
                console.print(Text(f"  {label + ':' if i == 0 else '':<5}{line}"))
    if outcome.exit_code:
        console.print(
            Text(f"  ({_MEANING.get(outcome.exit_code, 'failed')}; exit code {outcome.exit_code})", "dim")
        )


_MEANING = {
    1: "failed, what was live stays live everywhere",
    2: "nothing was contacted",
    3: "failed after the switch and switched back everywhere",
    4: "the hosts differ and need a person",
    5: "locked by someone else",
}


def show_deployment(outcome: Outcome) -> None:
    """A row a host, with the seconds of each phase."""
    from rich.table import Table

    if not outcome.ok:  # each step has told how far it came
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "live now", "before", "uploaded", "deleted", "how", "seconds"):
        table.add_column(name, overflow="fold")
    for result in outcome.hosts:
        how = " · ".join(part for part in (result.strategy, result.transfer, result.copy) if part)
        table.add_row(
            result.host,
            result.release or "-",
            result.previous or "-",
            f"{count(result.files_uploaded, 'file')}, {size(result.bytes_uploaded)}",
            str(result.files_deleted),
            how,
            f"{sum(result.phases.values()):.1f}",
        )
    console = make_console()
    console.print()
    console.print(table)
    for result in outcome.hosts:
        phases = " · ".join(f"{name} {seconds:.2f}" for name, seconds in result.phases.items())
        again = f" · {count(result.reconnects, 'reconnection')}" if result.reconnects else ""
        console.print(f"{result.host}: {phases}{again}", style="dim")


def show_plan(outcome: Outcome) -> None:
    """What a deployment would do, path by path."""
    from rich.text import Text

    console = make_console()
    for result in outcome.hosts:
        plan = result.plan
        if plan is None:
            continue
        console.print(Text(f"\n{result.host}", "bold"))
        for mark, style, entries in (
            ("+", "green", plan.added),
            ("~", "yellow", plan.changed),
            ("-", "red", plan.deleted),
        ):
            for entry in entries:
                console.print(
                    Text(
                        f"  {mark} {entry.path!r}"
                        if not entry.path.isprintable()
                        else f"  {mark} {entry.path}",
                        style,
                    )
                )
        console.print(
            f"  {len(plan.added)} to add, {len(plan.changed)} to change, {len(plan.deleted)} to delete, "
            f"{size(plan.size)} to upload; nothing was changed"
        )


def show_rollback_plan(outcome: Outcome) -> None:
    """Which release would be live."""
    console = make_console()
    for result in outcome.hosts:
        if result.release:
            console.print(f"{result.host}: {result.previous} → {result.release}; nothing was changed")


def show_sync(outcome: Outcome) -> None:
    """What was uploaded, and any drift."""
    console = make_console()
    for result in outcome.hosts:
        if result.drift is not None:
            counts = ", ".join(f"{len(paths)} {name}" for name, paths in result.drift.items())
            console.print(f"\n{result.host}: {counts}")
            for name, paths in result.drift.items():
                for path in paths:
                    console.print(f"  {name:<8} {path}", markup=False)
        if result.transfer:
            console.print(
                f"{result.host}: {count(result.files_uploaded, 'file')} uploaded "
                f"({size(result.bytes_uploaded)}), "
                f"{result.files_deleted} deleted"
            )


def show_releases(listings: list[Listing]) -> None:
    """A table for each host."""
    from rich.table import Table

    console = make_console()
    for listing in listings:
        if listing.error:
            continue
        console.print(f"\n[bold]{listing.host}[/]")
        if not listing.releases:
            console.print(
                "  no releases" + (f"; current is {listing.current}, not ours" if listing.current else "")
            )
            continue
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("", "release", "state", "revision", "created", "by", "size"):
            table.add_column(name)
        for record in listing.releases:
            table.add_row(
                "→" if record.id == listing.current else "",
                record.id,
                record.state,
                record.revision[:12] if not record.revision.startswith("tree-") else record.revision,
                record.created,
                record.deployed_by,
                size(record.bytes),
            )
        console.print(table)


def show_locks(holdings: list[Holding]) -> None:
    """A line a host."""
    console = make_console()
    for holding in holdings:
        if holding.error:
            continue
        if not holding.held:
            text = "not locked"
        else:
            text = f"locked by {holding.owner or 'somebody who has not signed'}"
            text += "; the lock is broken now" if holding.broken else "; --force breaks it"
        console.print(f"{holding.host}: {text}", markup=False)
