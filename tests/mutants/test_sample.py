"""A fixed sample of the mistakes; `inv mutants` tries them all."""

from __future__ import annotations

import random

import pytest

from tests.mutants import chance, table
from tests.mutants.table import Mistake
from tests.mutants.trial import NOTICED, Trial

SAMPLE = 6
SEED = 12


def quick(mistake: Mistake) -> bool:
    """Whether its tests need no server."""
    return bool(mistake.tests) and all(test.startswith("tests/unit/") for test in mistake.tests)


def test_every_mistake_still_applies() -> None:
    """Who changes a line that a mistake changes, puts the mistake into the new line."""
    problems = table.outdated(table.load())
    assert not problems, "\n".join(problems)


@pytest.mark.timeout(300)
def test_a_sample_is_noticed() -> None:
    chosen = random.Random(SEED).sample([m for m in table.load() if quick(m)], SAMPLE)
    verdicts = Trial(2).run(chosen)
    missed = [v.mistake.says for v in verdicts if v.fate != NOTICED]
    assert not missed, missed


def test_a_mistake_that_changes_nothing_is_not_noticed() -> None:
    """The run itself: it does not call everything noticed."""
    same = Mistake("same", "", "fabfile/on_host/layout.py", 'OWN = ".switchover"', 'OWN = ".switch" + "over"',
                   ("tests/unit/test_lock_scripts.py -k lease",))  # fmt: skip
    (verdict,) = Trial(1).run([same])
    assert verdict.fate == "not noticed"


def test_tests_that_fail_without_a_mistake_prove_nothing() -> None:
    wrong = Mistake("wrong", "", "fabfile/on_host/layout.py", "OWN = ", "OWN =  ", ("tests/unit/nothing.py",))
    with pytest.raises(RuntimeError, match="fail without any mistake"):
        Trial(1).run([wrong])


SOURCE = '''
def f(a, b):
    """One."""
    if not a and b > 1:
        print("é", a)
    return f"[ -f {b} ] && rm -rf {a}"
'''


def test_mistakes_by_chance_are_each_a_change_that_can_be_read() -> None:
    changed = {SOURCE[: c.start] + c.text + SOURCE[c.end :] for c in chance.changes(SOURCE)}
    assert SOURCE not in changed
    for wanted in (
        "b <= 1",
        "if (a) and",
        "not a or b",
        "b > 2",
        "[ -d {b}",
        "; rm",
        "&& true",
        "        pass",
    ):
        assert any(wanted in text for text in changed), wanted
    for text in changed:
        compile(text, "changed", "exec")
