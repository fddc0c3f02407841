"""What a signal (Ctrl-C, TERM, HUP) asks of the command that runs.

Before hosts are worked on, it ends with KeyboardInterrupt: nothing is at stake. From then on it is told to
stop, and goes back by itself: an exception in the middle of that would leave half a state. Afterwards nothing
is asked any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL = 0.1  # seconds
APART = 1.0  # seconds; what comes sooner is the same wish: a terminal that closes sends HUP twice


class Interruption:
    """asked: the signal that came first, in words; "" where none did. times: how many came, each a wish
    of its own.
    """

    def __init__(self) -> None:
        self.asked = ""
        self.times = 0
        self._last = float("-inf")
        self._stop: Callable[[], None] | None = None
        self._over = False

    def at_work(self, stop: Callable[[], None]) -> None:
        """Hosts are worked on from now on; `stop` has that end. Called again by each command of a script."""
        self._stop, self._over = stop, False

    def over(self) -> None:
        """What became of the hosts is decided."""
        self._stop, self._over = None, True

    def ask(self, signal: str) -> None:
        """Have the command stop. Raises KeyboardInterrupt where no host is worked on."""
        if self._over:
            return
        self.asked = self.asked or signal
        if time.monotonic() - self._last > APART:
            self.times += 1
        self._last = time.monotonic()
        if self._stop is None:
            raise KeyboardInterrupt(signal)
        self._stop()


current = Interruption()


class Patience(threading.Event):
    """Set once what is under way should be cut short: by a signal from now on, by a second one, or,
    where one came before, after `seconds`. For the way back: it must not hold a lock that somebody waits for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._before = min(current.times, 1)
        self._end = time.monotonic() + seconds

    def is_set(self) -> bool:
        """See threading.Event."""
        return current.times > self._before or (current.times > 0 and time.monotonic() > self._end)

    def wait(self, timeout: float | None = None) -> bool:
        """See threading.Event."""
        end = time.monotonic() + (timeout or 0)
        while not self.is_set() and (timeout is None or time.monotonic() < end):
            time.sleep(POLL)
        return self.is_set()
