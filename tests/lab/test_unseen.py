"""A few of the faults that are drawn by a seed; `inv lab --unseen SEED` makes as many as one likes."""

from __future__ import annotations

import os

import pytest

from fabfile.diagnosis.finding import CATALOGUE
from tests.lab.unseen.kinds import KINDS
from tests.lab.unseen.trial import Result, draw, tried
from tests.support.skipping import unavailable

SEED = 7
SLOW = ("way", "storage")  # parts whose faults wait, or mount


def quick(number: int) -> bool:
    """Whether a drawn fault is made and looked at in a few seconds."""
    drawn = draw(SEED, number)
    return len(drawn.kinds) == 1 and drawn.kinds[0].part not in SLOW and not drawn.recipe.deep


def test_the_same_seed_draws_the_same_faults() -> None:
    names = [draw(SEED, number).name for number in range(30)]
    assert names == [draw(SEED, number).name for number in range(30)]
    assert names != [draw(SEED + 1, number).name for number in range(30)]


def test_claims_are_findings_and_every_kind_is_drawn() -> None:
    drawn = [draw(SEED, number) for number in range(800)]
    assert {id for d in drawn for id in d.right} <= set(CATALOGUE)
    assert {kind.name for d in drawn for kind in d.kinds} == {kind.name for kind in KINDS if kind.can}
    assert all(d.right or d.quiet for d in drawn)
    assert all(len({kind.part for kind in d.kinds}) == len(d.kinds) for d in drawn)


@pytest.mark.timeout(240)
def test_a_sample_is_named(sshd_installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right finding is among the first, and no host is called healthy where a deployment fails."""
    if os.geteuid() != 0:
        unavailable("needs root")
    monkeypatch.delenv("SHLVL", raising=False)
    numbers = [number for number in range(40) if quick(number)][:3]
    results: list[Result] = [tried(draw(SEED, number)) for number in numbers]
    missed = [r for r in results if r.score not in ("first", "three")]
    assert not missed, [(r.drawn.name, r.score, r.named, r.said) for r in missed]
