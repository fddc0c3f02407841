"""The program `switchover`."""

from __future__ import annotations

from shlex import quote

from fabric import Config
from invoke.exceptions import Exit, UnexpectedExit
from invoke.parser.context import ParserContext

from ..errors import ConfigError, SwitchoverError
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

    def execute(self) -> None:
        """See Program.execute. Fabric itself runs `-H host -- COMMAND`; what it can't do is told by us."""
        hosts = self.args.hosts.value
        if self._remainder_only and not hosts:
            self.tell(ConfigError("No host is named.", "a command after -- needs some", "Say -H user@host."))
        try:
            super().execute()
        except (Exit, UnexpectedExit):
            raise
        except Exception as error:
            if not self._remainder_only:
                raise
            why = f"{type(error).__name__}: {error}"
            hint = f"This looks for the cause:\n{self.binary} -H {quote(hosts)} diagnose"
            self.tell(SwitchoverError("The command could not be run.", why, hint))

    def print_version(self) -> None:
        """See Fab.print_version."""
        from importlib.metadata import PackageNotFoundError, version  # here: slow to import

        try:
            self.version = version("switchover")
        except PackageNotFoundError:
            self.version = "of a clone"
        super().print_version()
