"""The kinds of faults that can be drawn. A kind turns one knob of a Recipe, and claims the right answers.

part: what it turns; of one part only one fault is drawn, so that one does not undo the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.lab.unseen.recipe import Recipe

PROGRAMS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Claim:
    """What was made. ids: each is a right answer. quiet: none is right too, where deployments work."""

    text: str
    ids: frozenset[str]
    quiet: bool = False


@dataclass(frozen=True)
class Kind:
    """One knob. weight: how often it is drawn, against the others."""

    name: str
    part: str
    make: Callable[[Random, Recipe], Claim]
    weight: int
    programs: tuple[str, ...]

    @property
    def can(self) -> bool:
        """Whether this machine has what it needs."""
        return all(shutil.which(program, path=PROGRAMS_PATH) for program in self.programs)


KINDS: list[Kind] = []


def kind(
    part: str, weight: int = 2, programs: tuple[str, ...] = ()
) -> Callable[[Callable[[Random, Recipe], Claim]], Callable[[Random, Recipe], Claim]]:
    """Adds a function to KINDS."""

    def declare(make: Callable[[Random, Recipe], Claim]) -> Callable[[Random, Recipe], Claim]:
        KINDS.append(Kind(make.__name__.replace("_", " "), part, make, weight, programs))
        return make

    return declare


def claim(text: str, *ids: str, quiet: bool = False) -> Claim:
    """A Claim, written shorter."""
    return Claim(text, frozenset(ids), quiet)
