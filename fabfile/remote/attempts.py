"""Attempts to connect: again, with backoff, for as long as another one is worth it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from ..errors import ConnectionFailed, ConnectionLost
from ..settings.model import Reconnect
from .failures import worth_another

AGAIN_AFTER = 0.75  # seconds until the second attempt; each later one waits twice as long, and some jitter
AGAIN_LIMIT = 5.0
UNANSWERED = 2  # attempts at a host from which nothing has ever come; each sends four SYNs within 10 s


class Attempts:
    """The attempts of one connection.

    attempt: one of them; raises ConnectionFailed. pause: waits so many seconds. tell: a level, and a text for
    a person.
    """

    def __init__(
        self,
        window: Reconnect,
        attempt: Callable[[], None],
        pause: Callable[[float], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self.window = window
        self.attempt = attempt
        self.pause = pause
        self.tell = tell
        self._tried = 0
        self._answered = False

    def first(self) -> None:
        """Connect for the first time. What the network has spoilt is tried again inside the reconnect window.

        Raises ConnectionFailed: at once where the answer was clear, after UNANSWERED attempts where there was
        none at all: a wrong address, or a firewall.
        """
        started = time.monotonic()
        try:
            self.attempt()
        except ConnectionFailed as error:
            if not self._worth_another(error, first=True) or self.window.attempts == 1:
                raise
            self.tell("warn", f"no connection yet, it is tried again: {error.why}")
            self.pause(AGAIN_AFTER * random.uniform(1, 1.5))
            self._insist(self.window.attempts - 1, started, first=True)

    def again(self, host: str, cause: str) -> None:
        """Connect once more, since the connection to `host` was lost by `cause`.

        Raises ConnectionLost when the window is used up, ConnectionFailed where the answer was clear.
        """
        attempts, window = self.window.attempts, self.window.window
        try:
            self._insist(attempts, time.monotonic(), first=False)
        except ConnectionFailed as last:
            if not worth_another(last, first=False):
                raise
            raise ConnectionLost(
                f"The connection to {host} was lost and could not be had again.",
                f"lost: {cause}; {attempts} attempts within {window:g} s, last: {last.what} {last.why}",
                "When the host answers again, run the same command: what was done is not done twice.",
            ) from last

    def _insist(self, attempts: int, started: float, *, first: bool) -> None:
        # Imported here: it brings asyncio along, and most runs never reconnect.
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
        from tenacity.wait import wait_exponential_jitter

        left = max(0.0, self.window.window - (time.monotonic() - started))
        Retrying(
            stop=stop_after_attempt(attempts) | stop_after_delay(left),
            wait=wait_exponential_jitter(multiplier=AGAIN_AFTER, max=AGAIN_LIMIT, jitter=0.5),
            retry=retry_if_exception(lambda error: self._worth_another(error, first=first)),
            sleep=self.pause,
            reraise=True,
        )(self.attempt)

    def _worth_another(self, error: BaseException, *, first: bool) -> bool:
        if first and isinstance(error, ConnectionFailed):
            self._tried += 1
            self._answered = self._answered or error.answered
            if not self._answered and self._tried >= UNANSWERED:
                return False
        return worth_another(error, first=first)
