"""What a signal (Ctrl-C, TERM, HUP) asks of the command that runs.

Before hosts are worked on, it ends with KeyboardInterrupt: nothing is at stake. From then on it is told to
stop, and goes back by itself: an exception in the middle of that would leave half a state. Afterwards nothing
is asked any more.
"""

from __future__ import annotations

from collections.abc import Callable


class Interruption:
    """asked: the signal that came, in words; "" where none did."""

    def __init__(self) -> None:
        self.asked = ""
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
        if self._stop is None:
            raise KeyboardInterrupt(signal)
        self._stop()


current = Interruption()
