"""Notice a peer that has gone silent.

paramiko's set_keepalive sends and never looks for an answer, so a dead peer blocks a reader for
ever. This asks (a global request that wants a reply, as OpenSSH's ServerAliveInterval does) and
closes the transport when nothing was heard for interval * count seconds: every wait on it then ends.
Whatever arrives counts as heard, as with OpenSSH: an answer may be queued behind a long download.
"""

from __future__ import annotations

import contextlib
import threading
import time

import paramiko

from .transport import Transport


class Watchdog:
    """Two daemon threads on one transport: one asks, the other judges.

    They are apart because asking may itself block on a full socket.
    """

    def __init__(self, transport: Transport, interval: float, count: int) -> None:
        self.transport = transport
        self.interval = interval
        self.limit = interval * count
        self.fired = False
        self._started = time.monotonic()
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin; ends by itself when the transport does."""
        for work in (self._ask, self._judge):
            threading.Thread(target=work, name=f"keepalive-{work.__name__}", daemon=True).start()

    def stop(self) -> None:
        """End both threads soon."""
        self._stop.set()

    def _ask(self) -> None:
        # Half the limit at most, so that a count of 1 still leaves time for an answer.
        pause = min(self.interval, self.limit / 2)
        while not self._stop.wait(pause) and self.transport.is_active():
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
                self.transport.send_keepalive()

    @property
    def overdue(self) -> bool:
        """Whether nothing was heard for longer than interval * count seconds."""
        return time.monotonic() - max(self._started, self.transport.heard) > self.limit

    def _judge(self) -> None:
        while not self._stop.wait(min(0.25, self.limit / 4)) and self.transport.is_active():
            if self.overdue:
                self.fired = True
                self.transport.close()


def answers(transport: paramiko.Transport, within: float) -> bool:
    """Whether the peer answers at this moment, within so many seconds."""
    heard = threading.Event()

    def ask() -> None:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            transport.global_request("keepalive@openssh.com", None, True)
            if transport.is_active():
                heard.set()

    threading.Thread(target=ask, name="keepalive", daemon=True).start()
    return heard.wait(within)
