"""What the lock answers, and how long it lives. No host is needed."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.errors import AnswerNotUnderstood, HostNotReady, SwitchoverError
from fabfile.on_host import lock
from fabfile.on_host.layout import Layout
from fabfile.on_host.lock import LEASE, RENEW, UNSIGNED, Lease, Lock, Owner

ME = Owner("joe", "laptop", 1, "2026-01-01T00:00:00+00:00", "fab deploy", "a" * 24)


class Host:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, level: str, text: str) -> None:
        self.notes.append(text)


def mine() -> Lock:
    return Lock(Host(), Layout("/srv/shop"), ME)  # type: ignore[arg-type]


def test_a_lease_outlives_several_renewals() -> None:
    """One that is late, or lost with a connection, is no reason to lose the lock."""
    assert LEASE >= 3 * RENEW
    assert UNSIGNED < RENEW


def test_a_lease_is_renewed_before_it_runs_out() -> None:
    """By the waits that it makes: each is shorter than the lease."""
    waits: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return len(waits) > 3

    held: Any = type("Held", (), {"host": type("H", (), {"connection": type("C", (), {"alive": True})})})()
    renewed: list[int] = []
    held.renew = lambda: renewed.append(1)
    lease = Lease(held)
    lease._stop = Clock()
    lease._run()
    assert len(renewed) == 3 and sum(waits[:3]) <= LEASE


def test_what_it_says() -> None:
    taken = mine()
    assert taken._understood(f"taken\t{ME.token}\t7 0\t") == ("taken", None)
    assert taken.number == 7 and not taken.host.notes  # type: ignore[attr-defined]
    other = replace(ME, token="b" * 24)
    signed = json.dumps(asdict(other))
    assert mine()._understood(f"taken\t{ME.token}\t7 1\t{signed}") == ("taken", other)
    assert mine()._understood(f"held\t{ME.token}\t\t{signed}") == ("held", other)
    assert mine()._understood(f"held\t{ME.token}\t\t") == ("held", None)
    with pytest.raises(HostNotReady, match="can't be trusted"):
        mine()._understood(f"refused\t{ME.token}\t/srv/shop/.switchover/lock\tit is a link to /etc")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "taken",
        "taken\t7\t",
        f"taken\t{'b' * 24}\t7 0\t",
        f"taken\t{ME.token}\t07 0\t",
        f"taken\t{ME.token}\t-7 0\t",
        f"taken\t{ME.token}\t7\t",
        f"taken\t{ME.token}\t 0\t",
        f"/srv/shop\ntaken\t{ME.token}\t7 0\t",
        f"taken\t{ME.token}",
        f"held\t{'b' * 24}\t\t",
        f"refused\t{ME.token}\t/etc\tx",
        f"taken\t{ME.token}\t{'9' * 30} 0\t",
    ],
)
def test_nobody_goes_on_who_does_not_know_that_it_is_his(said: str) -> None:
    taken = mine()
    with pytest.raises(AnswerNotUnderstood):
        taken._understood(said)


@given(
    st.lists(st.sampled_from(["taken", "held", "refused", ME.token, "7 0", "\t", "\n", "", "x"])).map("".join)
)
@settings(deadline=None)
def test_any_answer(said: str) -> None:
    try:
        outcome, _ = mine()._understood(said)
    except SwitchoverError:
        return
    assert ME.token in said and outcome in ("taken", "held")


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "."},
        {"token": "a" * 23},
        {"token": 5},
        {"pid": -1},
        {"pid": "x"},
        {"pid": None},
        {"pid": 10**30},
        {"user": "\x1b]0;x\a"},
        {"machine": "a\nb"},
        {"command": "x" * 5000},
        {"time": 5},
        {"place": []},
    ],
    ids=str,
)
def test_an_owner_that_did_not_sign_as_we_do_is_nobody(change: dict[str, Any]) -> None:
    """So it is never taken for a dead one, whose lock is released by its token."""
    assert lock._owner(json.dumps(asdict(ME))) == ME
    assert lock._owner(json.dumps({**asdict(ME), **change})) is None
