"""A peer that has gone silent, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fabfile.remote import watchdog
from fabfile.remote.watchdog import Watchdog

INTERVAL, COUNT = 15.0, 4
LIMIT = INTERVAL * COUNT


class Line:
    """A transport, and the clock; waiting turns the clock on. answers_until: after that nobody answers."""

    def __init__(self, answers_until: float = 0.0) -> None:
        self.now = 1000.0
        self.begin = self.now
        self.active = True
        self.answers_until = answers_until
        self.asked: list[float] = []
        self.heard = 0.0  # when the last packet came, by the clock

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        """As Event.wait of an event that is never set."""
        self.now += seconds
        return self.now - self.begin > 100 * LIMIT  # a test never goes on for ever

    def is_active(self) -> bool:
        return self.active

    def close(self) -> None:
        self.active = False

    def send_keepalive(self) -> None:
        self.asked.append(self.now - self.begin)
        if self.now - self.begin > self.answers_until:
            self.active = False


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line()
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def dog(line: Line) -> Watchdog:
    transport: Any = line
    made = Watchdog(transport, INTERVAL, COUNT)
    stop: Any = SimpleNamespace(wait=line.wait)
    made._stop = stop
    return made


@pytest.mark.promise("silence")
def test_silence_ends_the_transport_after_interval_times_count(line: Line) -> None:
    watching = dog(line)
    watching._judge()
    assert watching.fired and not line.active
    assert LIMIT <= line.now - line.begin <= LIMIT + 1


def test_an_answer_counts_from_when_it_came(line: Line) -> None:
    watching = dog(line)
    line.now += LIMIT - 1
    line.heard = line.now
    watching._judge()
    assert 2 * LIMIT - 1 <= line.now - line.begin <= 2 * LIMIT + 1


def test_it_asks_as_often_as_it_is_told(line: Line) -> None:
    line.answers_until = 10 * INTERVAL
    dog(line)._ask()
    assert line.asked[:3] == [INTERVAL, 2 * INTERVAL, 3 * INTERVAL]


def test_a_count_of_one_still_leaves_time_for_an_answer(line: Line) -> None:
    line.answers_until = 10 * INTERVAL
    transport: Any = line
    watching = Watchdog(transport, INTERVAL, 1)
    stop: Any = SimpleNamespace(wait=line.wait)
    watching._stop = stop
    watching._ask()
    assert line.asked[0] <= INTERVAL / 2


def test_no_answer_is_not_taken_for_one(line: Line) -> None:
    """That we asked, however often, is nothing heard."""
    line.answers_until = 10 * LIMIT
    watching = dog(line)
    for _ in range(2 * COUNT):
        line.now += INTERVAL
        line.send_keepalive()
    assert watching.overdue


def test_a_peer_that_never_answers_is_asked_again(line: Line) -> None:
    """Asking waits for no answer: one that is lost does not end the asking."""
    line.answers_until = 10 * INTERVAL
    dog(line)._ask()
    assert len(line.asked) > COUNT and line.heard == 0.0
