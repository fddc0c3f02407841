"""The program `switchover`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

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
    return Program(
        name="Switchover",
        version=_version(),
        binary="switchover",
        binary_names=["switchover"],
        namespace=ns,
        executor_class=_Bundled,
        config_class=Config,
    )


def _version() -> str:
    try:
        return version("switchover")
    except PackageNotFoundError:
        return "of a clone"
