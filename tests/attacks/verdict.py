"""What came of one attack."""

from __future__ import annotations

from dataclasses import dataclass, field

DONE, REFUSED, WRONG = "done", "refused", "wrong"
OWN = "led astray by its own account"  # which could have done the harm by itself: nothing is promised there


@dataclass
class Verdict:
    """What came of one attack: done, refused by an error of ours, wrong or OWN; why; what it was."""

    seed: int
    fate: str
    why: list[str] = field(default_factory=list)
    label: str = ""
    seconds: float = 0
