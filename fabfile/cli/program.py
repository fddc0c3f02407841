"""Fabric's program with our tasks. What is typed wrong is told as all errors are: exit code 2, and JSON."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from fabric.main import Fab
from invoke.exceptions import Exit

from .executor import Executor, addresses


class Program(Fab):  # type: ignore[misc]
    """Fabric's, apart from what it says of a wrong command line, and from the executor."""

    def parse_core(self, argv: Any) -> None:
        """See Fab.parse_core."""
        with self._told():
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        """See Program.parse_tasks."""
        with self._told():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        """See Program.parse_cleanup."""
        with self._told():
            self._check_help()
            super().parse_cleanup()

    def update_config(self, merge: bool = True) -> None:
        """See Fab.update_config. What -H names is looked at here: own tasks get it from Fabric unseen."""
        with self._told():
            super().update_config()
            self._check_hosts()
            self._check_remainder()
            self._check_fabrics_configuration()

    def execute(self) -> None:
        """See Program.execute. What own tasks raise is theirs to tell, apart from errors of ours."""
        from ..errors import SwitchoverError

        try:
            super().execute()
        except SwitchoverError as error:
            self.tell(error)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what is raised inside as an error of usage. Raises Exit."""
        from ..errors import ConfigError

        try:
            yield
        except Exit as left:
            self.leave(left)
        except ConfigError as error:
            self.tell(error)
        except BrokenPipeError:  # `--list | head`: whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=0) from None
        except Exception as error:  # noqa: BLE001  (Invoke casts, reads and asks without catching)
            self.tell(self._explained(error))

    def leave(self, left: Exit) -> None:
        """Leave as Invoke wants to, but tell a reason that it has as all errors are told. Raises Exit."""
        from ..errors import ConfigError

        if not left.message:
            raise left
        self.tell(ConfigError("This can't be done.", left.message, self._see_help()))

    def _explained(self, error: Exception) -> Any:
        from . import usage

        core = getattr(self, "core", None)
        contexts = self.collection.to_contexts() if getattr(self, "collection", None) else []
        typed = core.unparsed if core else self.argv[1:]
        return usage.explain(error, typed, self.initial_context, contexts, self._see_help())

    def _see_help(self) -> str:
        return f"See `{self.binary} --list`, and `{self.binary} --help TASK` for a task's flags."

    def tell(self, error: Any) -> None:
        from ..report import documents
        from ..results import Outcome
        from . import common

        outcome = Outcome(error.exit_code, error)
        common.run("--json" in self.argv, lambda _: outcome, documents.deployment, lambda _: None)

    def _check_help(self) -> None:
        """Raises ConfigError where --help asks for a task that there is not."""
        from ..errors import ConfigError
        from . import usage

        asked, known = self.args.help.value, self.parser.contexts
        if isinstance(asked, str) and asked not in known:
            raise ConfigError(f"There is no task {asked}.", usage.nearest(asked, known), self._see_help())

    def _check_hosts(self) -> None:
        """Raises ConfigError."""
        from .. import address
        from ..errors import ConfigError

        given = self.args.hosts.value
        if given is not None and not addresses(given):
            raise ConfigError(
                "-H names no host.",
                f"found {given!r}; a variable in it may be unset",
                "Name the hosts, or leave -H out: then it is `hosts` of the configuration.",
            )
        for one in addresses(given):
            try:
                address.parse(one)
            except ValueError as error:
                why = f"found {one!r}; allowed: {error}"
                raise ConfigError("A host is not named as it should be.", why, "Correct -H.") from None

    def _check_remainder(self) -> None:
        """Raises ConfigError where words after -- would be lost without a word."""
        from ..errors import ConfigError

        if self.tasks and self.core.remainder:
            raise ConfigError(
                "What follows -- is taken by no task.",
                f"found {self.core.remainder!r} after {', '.join(task.name for task in self.tasks)}",
                "Leave it out; a command for the hosts is typed without a task: -H HOST -- COMMAND.",
            )

    def _check_fabrics_configuration(self) -> None:
        """Raises ConfigError where a fabric.yaml is not there, or names what can't be imported."""
        from ..errors import ConfigError

        file = self.args.config.value
        if file and not Path(file).exists():
            raise ConfigError(
                f"{file} can't be read.", "-f names it, and there is no such file", "Correct -f."
            )
        named = self.config.tasks.executor_class
        if named is None:
            return
        module, _, name = str(named).rpartition(".")
        try:
            getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"tasks.executor_class can't be loaded: {named}",
                f"{type(error).__name__}: {error}; a fabric.yaml or ~/.fabric.yaml names it",
                "Take that line out: it is not needed any more.",
            ) from None


def adopt(program: Any) -> None:
    """Have a program of Fabric's hand all hosts to our tasks at once, and tell wrong usage as ours does.

    Of a program that is somebody's own nothing is changed: see common.targets.
    """
    if type(program) is Fab and program.executor_class is not Executor:
        program.__class__ = Program
        program.executor_class = Executor
