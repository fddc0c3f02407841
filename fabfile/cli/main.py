"""The program `switchover`."""

from __future__ import annotations

from fabric import Config

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
    def print_version(self) -> None:
        """See Fab.print_version."""
        from importlib.metadata import PackageNotFoundError, version  # here: slow to import

        try:
            self.version = version("switchover")
        except PackageNotFoundError:
            self.version = "of a clone"
        super().print_version()
