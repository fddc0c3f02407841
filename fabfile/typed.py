"""How a person called us, so that a command which an error tells to type is complete."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Typed:
    """One call. program: with Fabric's own flags (-i, -S …). flags: ours that say what is meant (--config,
    --env, --deploy-to).
    """

    program: tuple[str, ...] = ("fab",)
    flags: tuple[str, ...] = ()

    def line(self, address: str, identity: str | None, task: str, *args: str) -> str:
        """A command for one host as it is to be typed. address: as -H takes it; identity: a key file."""
        named = ["-i", identity] if identity and "-i" not in self.program else []
        return shlex.join([*self.program, "-H", address, *named, task, *self.flags, *args])
