"""A fixed sample of all attacks; `inv attacks --all` runs the rest."""

from __future__ import annotations

import pytest

from tests.attacks.git_trees import judge_git
from tests.attacks.judge import judge
from tests.attacks.verdict import DONE, WRONG
from tests.support.sshd import Sshd

# Each strategy with each transfer; planted, and swapped by another account.
SEEDS = (19, 41, 44, 72, 74, 85)
REPOSITORIES = range(16)


@pytest.mark.promise("planted")
@pytest.mark.parametrize("seed", SEEDS)
def test_an_attack_on_a_host(sshd: Sshd, seed: int) -> None:
    verdict = judge(sshd, seed)
    assert verdict.fate != WRONG, verdict.why


@pytest.mark.promise("repositories")
def test_attacks_by_repositories() -> None:
    verdicts = [judge_git(seed) for seed in REPOSITORIES]
    wrong = {verdict.seed: verdict.why for verdict in verdicts if verdict.fate == WRONG}
    assert not wrong
    assert {verdict.fate for verdict in verdicts} >= {DONE}, "nothing came through: nothing was tried"
