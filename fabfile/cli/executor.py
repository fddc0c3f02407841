"""Hands all hosts of `-H a,b,c` to a task at once; Fabric itself would call it once per host.

Named in fabric.yaml, as Invoke's `tasks.executor_class` wants it.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import fabric.executor
from invoke.context import Context
from invoke.tasks import Call, Task

if TYPE_CHECKING:
    from ..hosts import Target


class FleetTask(Task[Any]):
    """A task that takes all hosts in one call: `c.targets`, empty where -H was not given."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See Task."""
        try:
            return super().__call__(*args, **kwargs)
        finally:
            gc.freeze()


class FleetContext(Context):
    """The context of a FleetTask. targets: of -H; program: how fab was called, but for that."""

    # Declared, so that Invoke takes them for attributes and not for configuration.
    targets: list[Target] = []  # noqa: RUF012
    program: tuple[str, ...] = ("fab",)

    def __init__(self, config: Any, targets: list[Target], program: tuple[str, ...]) -> None:
        super().__init__(config)
        self._set(targets=targets, program=program)


class FleetCall(Call):
    """A call of a FleetTask."""

    targets: list[Target]
    program: tuple[str, ...]

    def make_context(self, config: Any) -> FleetContext:
        """See Call.make_context."""
        return FleetContext(config, self.targets, self.program)


class Executor(fabric.executor.Executor):  # type: ignore[misc]
    """Fabric's, apart from FleetTasks."""

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> list[Any]:
        """See fabric.Executor.expand_calls."""
        # A short run makes little garbage: looking for it takes 6 % of the time, some of it in these imports.
        gc.set_threshold(50_000)
        from ..hosts import Target

        given = self.core[0].args.hosts.value
        targets = [Target(part.strip(" ")) for part in given.split(",") if part.strip(" ")] if given else []
        expanded: list[Any] = []
        for call in calls:
            if isinstance(getattr(call, "task", call), FleetTask):
                fleet_call = call.clone(into=FleetCall)
                fleet_call.targets = targets
                fleet_call.program = _program(self.core[0].args)
                expanded.append(fleet_call)
            else:
                expanded.extend(super().expand_calls([call], apply_hosts))
        return expanded


# Fabric's flags that decide which host is meant, and how it is reached.
_KEPT = (
    ("-r", "search-root"),
    ("-c", "collection"),
    ("-f", "config"),
    ("-S", "ssh-config"),
    ("-i", "identity"),
)


def _program(args: Any) -> tuple[str, ...]:
    """`fab` with those of its own flags that were given and say how a host is reached."""
    words = ["fab"]
    for flag, name in _KEPT:
        value = args[name].value if name in args and args[name].got_value else None
        for one in value if isinstance(value, list) else [value] if value else []:
            words += [flag, str(one)]
    return tuple(words)
