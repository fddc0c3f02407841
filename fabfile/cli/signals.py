"""INT, TERM and HUP are one thing: what runs goes back, and gives its locks back."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ..interruption import current

_NAMES = {
    signal.SIGINT: "Ctrl-C (SIGINT)",
    signal.SIGTERM: "the signal SIGTERM",
    signal.SIGHUP: "the signal SIGHUP",
}


def received() -> str:
    """The signal that came, in words; "" where none did."""
    return current.asked


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Take INT, TERM and HUP as one question, apart from those that were ignored when we began (nohup)."""
    before = {number: signal.getsignal(number) for number in _NAMES}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _ask)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number] or signal.SIG_DFL)


def _ask(number: int, _: FrameType | None) -> None:
    current.ask(_NAMES[signal.Signals(number)])
