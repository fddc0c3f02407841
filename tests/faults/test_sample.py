"""A fixed sample of all faults; `inv faults --all` runs the rest."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.harness import LOST, NOT_PROVOKED, Bench, Verdict
from tests.faults.run import STRATEGIES, TRANSFERS, cases

SHARE = 50  # one case in so many


@pytest.mark.timeout(400)
def test_a_sample_of_all_faults(sshd_installed: None) -> None:
    """The user sees a deployment that comes through, or an error and then a re-run that does."""
    with Bench() as bench:
        packets = {(s, t): bench.packets(s, t) for s in STRATEGIES for t in TRANSFERS}
        verdicts: list[Verdict] = [bench.judge(case) for case in cases(packets, SHARE)]
    lost = [f"{v.case}: {v.why}" for v in verdicts if v.fate == LOST]
    assert not lost, "\n".join(lost)
    fates = Counter(v.fate for v in verdicts)
    assert len(verdicts) - fates[NOT_PROVOKED] >= 30, fates
    assert {v.case.fault for v in verdicts} >= {"reset", "silence", "kill-client", "kill-sessions", "reboot"}
