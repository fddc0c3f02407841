"""What all tasks do: flags to settings, reports, exit codes."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fabric
from invoke.exceptions import Exit

from ..errors import SwitchoverError
from ..events import Event, Listener
from ..fleet import Outcome, Target
from ..settings import Settings, load
from ..typed import Typed

Json = dict[str, Any]


def settings(env: str, config: str, **overrides: object) -> Settings:
    """Load the configuration; an override that is None or "" was not given."""
    given = {key: value for key, value in overrides.items() if value not in (None, "")}
    return load(Path(config) if config else None, env=env or None, overrides=given)


def targets(c: Any) -> list[Target]:
    """The hosts of -H. Where Fabric calls us for one host (another fabric.yaml), that one."""
    if isinstance(c, fabric.Connection):
        port = "" if c.port == 22 else f":{c.port}"
        return [Target(f"{c.user}@{c.original_host}{port}")]
    return list(getattr(c, "targets", []))


def typed(c: Any, env: str, config: str, deploy_to: str) -> Typed:
    """How we were called, but for what is to be done."""
    given = (("--config", config), ("--env", env), ("--deploy-to", deploy_to))
    flags = [word for flag, value in given if value for word in (flag, value)]
    return Typed(tuple(getattr(c, "program", ("fab",))), tuple(flags))


def run(
    as_json: bool,
    title: str,
    work: Callable[[Listener], Outcome],
    document: Callable[[Outcome], Json],
    show: Callable[[Outcome], None],
    *,
    clock: bool = False,
) -> None:
    """Do `work` with a live report, then say how it went, and leave with its exit code.

    clock: what goes on is measured in seconds, not in bytes.
    """
    with _terminable():
        with _Report(title, as_json, clock) as report:
            outcome = _attempt(lambda: work(report))
        if as_json:
            json.dump(document(outcome), sys.stdout, indent=2)
            print()
        else:
            show(outcome)
        if outcome.exit_code:
            if outcome.error:
                from ..report import console

                console.show_error(outcome, to_stderr=True)
            raise Exit(code=outcome.exit_code)


class _Report:
    """The live report, from the first event on: until then we connect, and need not wait for Rich."""

    def __init__(self, title: str, to_stderr: bool, clock: bool) -> None:
        self._how = (title, to_stderr, clock)
        self._live: contextlib.ExitStack = contextlib.ExitStack()
        self._listen: Listener | None = None
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._listen is None:
                from ..report import console

                title, to_stderr, clock = self._how
                live = console.Live(title, to_stderr=to_stderr, clock=clock)
                self._listen = self._live.enter_context(live).listen
        self._listen(event)

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)


def _attempt(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except SwitchoverError as error:
        return Outcome(error.exit_code, error)
    except KeyboardInterrupt:
        return Outcome(
            1, SwitchoverError("Interrupted.", "nothing was switched", "Run the same command again.")
        )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM (a cancelled CI job) is treated as Ctrl-C: locks are given back."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
