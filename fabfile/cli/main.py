"""The program `switchover`."""

from __future__ import annotations

from fabric import Config
from invoke.exceptions import Exit
from invoke.parser.context import ParserContext

from .executor import Executor
from .program import Program
from .tasks import ns


class _Bundled(Executor):
    """The executor of `switchover`."""

    program = "switchover"


def main() -> None:
    """Run `switchover`."""
    bundled().run()


def bundled() -> Program:
    """The program `switchover`: it needs no fabfile."""
    return _Switchover(
        name="Switchover",
        binary="switchover",
        binary_names=["switchover"],
        namespace=ns,
        executor_class=_Bundled,
        config_class=Config,
    )


class _Switchover(Program):
    @property
    def initial_context(self) -> ParserContext:
        """See Program.initial_context. With -r and -c, which a program with tasks of its own has not."""
        return ParserContext(args=[*self.core_args(), *self.task_args()])

    def parse_collection(self) -> None:
        """See Program.parse_collection. What -r or -c names takes the place of our tasks."""
        if self.args.collection.value or self.args["search-root"].value:
            self.namespace = None
        try:
            super().parse_collection()  # what somebody's own fabfile raises is theirs
        except Exit as left:
            self.leave(left)

    def print_version(self) -> None:
        """See Fab.print_version."""
        from importlib.metadata import PackageNotFoundError, version  # here: slow to import

        try:
            self.version = version("switchover")
        except PackageNotFoundError:
            self.version = "of a clone"
        super().print_version()
