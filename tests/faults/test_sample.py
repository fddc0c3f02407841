"""A fixed sample of all faults; `inv faults --all` runs the rest."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.harness import LOST, NOT_PROVOKED, RE_RUN, Bench, Verdict
from tests.faults.run import STRATEGIES, TRANSFERS, cases

SHARE = 60  # one case in so many


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
    tried = {v.case.fault for v in verdicts if v.fate != NOT_PROVOKED}
    assert tried >= {"reset", "silence", "kill-client", "kill-sessions", "reboot"}
    assert tried >= {"made-reset", "made-close", "made-silence"}
    # What dies while it is made is made again; a machine under load may lose one case to its own silence.
    ended = [f"{v.case}: {v.ended}" for v in verdicts if v.case.times and v.fate == RE_RUN]
    assert len(ended) <= 1, "\n".join(ended)
