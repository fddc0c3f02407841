"""Hands all hosts of `-H a,b,c` to a task at once; Fabric itself would call it once per host."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import fabric.executor
from invoke.context import Context
from invoke.tasks import Call, Task

from ..typed import Typed, remember

if TYPE_CHECKING:
    from ..hosts import Target


class FleetTask(Task[Any]):
    """A task that takes all hosts in one call: `c.targets`, empty where -H was not given."""

    takes_all_hosts = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See Task."""
        try:
            return super().__call__(*args, **kwargs)
        finally:
            gc.freeze()


class FleetContext(Context):
    """The context of a FleetTask. targets: of -H; typed: how we were called, but for those."""

    # Declared, so that Invoke takes them for attributes and not for configuration.
    targets: list[Target] = []  # noqa: RUF012
    typed: Typed = Typed()

    def __init__(self, config: Any, targets: list[Target], typed: Typed) -> None:
        super().__init__(config)
        self._set(targets=targets, typed=typed)


class FleetCall(Call):
    """A call of a FleetTask."""

    targets: list[Target]
    typed: Typed

    def make_context(self, config: Any) -> FleetContext:
        """See Call.make_context."""
        return FleetContext(config, self.targets, self.typed)


class Executor(fabric.executor.Executor):  # type: ignore[misc]
    """Fabric's, apart from FleetTasks."""

    program = "fab"

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> list[Any]:
        """See fabric.Executor.expand_calls."""
        # A short run makes little garbage: looking for it takes 6 % of the time, some of it in these imports.
        gc.set_threshold(50_000)
        if not calls and apply_hosts:  # `fab -H host -- COMMAND`
            return list(super().expand_calls(calls))
        expanded: list[Any] = []
        for call in calls:
            one = Call(call) if isinstance(call, Task) else call
            # Not isinstance: a fabfile may have the tasks of a clone, and run in the package's executor.
            if getattr(one.task, "takes_all_hosts", False):
                expanded.append(self._for_all_hosts(one))
            else:
                expanded.extend(super().expand_calls([one], apply_hosts))
        return expanded

    def _for_all_hosts(self, call: Call) -> FleetCall:
        from ..hosts import Target

        fleet_call = call.clone(into=FleetCall)
        assert isinstance(fleet_call, FleetCall)
        args = self.core[0].args
        fleet_call.targets = [Target(address) for address in addresses(args.hosts.value)]
        fleet_call.typed = Typed(_words(self.program, args), names=_names(self.collection))
        remember(fleet_call.typed)
        return fleet_call


def addresses(hosts: str | None) -> list[str]:
    """What -H names."""
    return [part.strip(" ") for part in (hosts or "").split(",") if part.strip(" ")]


# Fabric's flags that decide which host is meant, and how it is reached.
_KEPT = (
    ("-r", "search-root"),
    ("-c", "collection"),
    ("-f", "config"),
    ("-S", "ssh-config"),
    ("-i", "identity"),
)


def _words(program: str, args: Any) -> tuple[str, ...]:
    """The program with those of Fabric's flags that were given and say how a host is reached."""
    words = [program]
    for flag, name in _KEPT:
        value = args[name].value if name in args and args[name].got_value else None
        for one in value if isinstance(value, list) else [value] if value else []:
            words += [flag, str(one)]
    return tuple(words)


def _names(collection: Any) -> Mapping[str, str]:
    """What our tasks are called in this collection, somebody's own perhaps: deploy -> switchover.deploy."""
    names: dict[str, str] = {}
    for full in collection.task_names:
        task = collection[full]
        if getattr(task, "takes_all_hosts", False):
            names.setdefault(collection.transform(task.name), full)
    return names
