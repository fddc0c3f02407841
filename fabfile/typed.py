"""How a person called us, so that a command which an error tells to type is complete."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

# A clone is called by Fabric's program; the package brings one of its own.
PROGRAM = "switchover" if __package__ == "switchover" else "fab"


@dataclass(frozen=True)
class Typed:
    """One call. program: with Fabric's own flags (-i, -S …). flags: ours that say what is meant (--config,
    --env, --deploy-to). names: what our tasks are called there, where that is not their own name.
    """

    program: tuple[str, ...] = (PROGRAM,)
    flags: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def line(self, address: str, identity: str | None, task: str, *args: str) -> str:
        """A command for one host as it is to be typed. address: as -H takes it; identity: a key file."""
        named = ["-i", identity] if identity and "-i" not in self.program else []
        called = self.names.get(task, task)
        return shlex.join([*self.program, "-H", address, *named, called, *self.flags, *args])


_current = Typed()


def remember(typed: Typed) -> None:
    """This process was called so."""
    global _current
    _current = typed


def command(task: str, *args: str) -> str:
    """A command as sentences name it: `fab unlock --force`, without hosts and flags. Where one's own fabfile
    has our tasks under a name, with that name.
    """
    return shlex.join([_current.program[0], _current.names.get(task, task), *args])


def line(address: str, task: str, *args: str) -> str:
    """A command for one host as it is to be typed by whoever called this process. See Typed.line."""
    return _current.line(address, None, task, *args)


def program(*args: str) -> str:
    """The same without a task: `fab -i FILE`."""
    return " ".join([_current.program[0], *args])
