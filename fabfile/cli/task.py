"""How a task is declared. Light: `fab --list` loads this and no more; each body imports what it needs."""

from __future__ import annotations

from collections.abc import Callable

from invoke.tasks import task as invoke_task

from .executor import FleetTask

COMMON_HELP = {
    "env": "The section of `environments` to lay over the configuration.",
    "config": "The configuration file, instead of ./config.yaml.",
    "json": "One JSON document on stdout at the end; everything else goes to stderr.",
}


def task(help: dict[str, str], common: bool = True) -> Callable[[Callable[..., None]], FleetTask]:
    """Declare a task that gets all hosts at once; `help` is for the flags beyond the common ones.

    Flags are long: a letter would mean one thing here, another in the next command, and a third to Fabric.
    """

    def declare(body: Callable[..., None]) -> FleetTask:
        described = {**COMMON_HELP, **help} if common else help
        made: FleetTask = invoke_task(klass=FleetTask, help=described, auto_shortflags=False)(body)
        return made

    return declare
