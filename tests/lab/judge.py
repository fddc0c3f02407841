"""Makes a fault, lets the diagnosis look, does what it advises, and looks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.lab.faults import CONTROLS, Fault

BAD = ("fail", "warn")


@dataclass(frozen=True)
class Verdict:
    """named: the findings that were not ok, in their order. others: those that failed and are not explained
    by the first. first: the finding itself. mended: whether its advice made it go away; None: not tried.
    """

    fault: str
    expected: str
    named: tuple[str, ...]
    others: tuple[str, ...]
    first: dict[str, Any]
    mended: bool | None

    @property
    def right(self) -> bool:
        """Whether the diagnosis was right in all it said."""
        return self.named[:1] == (self.expected,) and not self.others and self.mended is not False


def judge(fault: Fault) -> Verdict:
    """What the diagnosis makes of a fault."""
    with fault.make() as place:
        try:
            found = place.examine(fault.deep)
            bad = _bad(found)
            first = bad[0] if bad else {}
            explained = {id for root in found["verdict"]["roots"][:1] for id in root["explains"]}
            others = [f["id"] for f in bad[1:] if f["status"] == "fail" and f["id"] not in explained]
            mended = None
            if fault.mends and first.get("id") == fault.expects and first["fix"]:
                place.apply(first["fix"])
                mended = fault.expects not in [f["id"] for f in _bad(place.examine(fault.deep))]
            elif fault.mends:
                mended = False
            named = tuple(f["id"] for f in bad)
            return Verdict(fault.name, fault.expects, named, tuple(others), first, mended)
        finally:
            place.close()


def alarms(control: str) -> list[dict[str, Any]]:
    """What the diagnosis says against a healthy host, and is not true of it."""
    healthy = CONTROLS[control]
    with healthy.make() as place:
        try:
            return [f for f in _bad(place.examine()) if f["status"] == "fail" or f["id"] not in healthy.told]
        finally:
            place.close()


def _bad(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in found["findings"] if finding["status"] in BAD]
