"""Session channels, with some always opened ahead: a command then costs one round trip instead of two.

A server allows so many at a time on one connection (sshd's MaxSessions). That shows when it refuses one; from
then on we keep to it: commands wait for their turn, and below ENOUGH whoever holds one for long (SFTP) is
asked to give it up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import paramiko
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, cMSG_CHANNEL_REQUEST

from ..background import background

SPARE = 2  # sessions: what two threads need at once
ENOUGH = 3  # sessions at a time: a long command, a sign of life beside it, and SFTP
OPENED_WITHIN = 60.0  # seconds for the server's answer to a channel
TURN_WITHIN = 1800.0  # seconds for another command of ours to end
AGAIN = 0.1  # seconds between two attempts


class Sessions:
    """The sessions of one transport. Thread-safe.

    enough:    how many at a time are needed to do without asking anybody to give up theirs.
    allowed:   how many the server is known to allow; None: enough so far.
    on_scarce: called with that number where it is less than `enough`: once that is known, and whenever
               somebody waits for a session then.
    """

    def __init__(
        self,
        transport: paramiko.Transport,
        timeout: float = OPENED_WITHIN,
        enough: int = ENOUGH,
        allowed: int | None = None,
        on_scarce: Callable[[int], None] = lambda allowed: None,
    ) -> None:
        self.transport = transport
        self.timeout = timeout
        self.enough = enough
        self.allowed = allowed
        self.on_scarce = on_scarce
        self._lock = threading.Lock()
        self._ahead: deque[Future[paramiko.Channel]] = deque()

    def take(self, *, optional: bool = False) -> paramiko.Channel:
        """An open session, nothing of it used yet. optional: raise at once where there is none to spare, else
        wait for one that is in use. Raises what Transport.open_session raises.
        """
        if optional and self._scarce:
            raise _none(f"the server allows {self.allowed} at a time on one connection (MaxSessions)")
        channel = self._taken(optional)
        with self._lock:
            while len(self._ahead) < self._spare:
                self._ahead.append(background(self._open))  # paramiko asks and waits in one call
        return channel

    @property
    def _scarce(self) -> bool:
        return self.allowed is not None and self.allowed < self.enough

    @property
    def _spare(self) -> int:
        if "OpenSSH" not in self.transport.remote_version:
            return 0  # Dropbear 2022.83 ends those that run nothing when one that did ends, and loses others
        return SPARE if self.allowed is None else max(0, min(SPARE, self.allowed - self.enough))

    def _taken(self, optional: bool) -> paramiko.Channel:
        until = time.monotonic() + TURN_WITHIN
        while True:
            with self._lock:
                ahead = self._ahead.popleft() if self._ahead else None
            try:
                channel = ahead.result() if ahead else self._open()
                if not channel.closed:
                    return channel
            except paramiko.ChannelException:
                if not ahead and (optional or not self._in_use or time.monotonic() > until):
                    raise
                if self.allowed is not None and self._scarce:
                    self.on_scarce(self.allowed)  # again: SFTP may have been opening when it was asked first

    @property
    def _in_use(self) -> int:
        """The sessions that are open, until the server has closed them too."""
        return sum(channel.active for channel in self.transport._channels.values())

    def _open(self) -> paramiko.Channel:
        """Raises ChannelException where the server opens none, twice; how many it allows is known then."""
        try:
            return self._ask()
        except paramiko.ChannelException:
            time.sleep(AGAIN)  # what was just closed may still have counted
        try:
            return self._ask()
        except paramiko.ChannelException:
            self._learn(self._in_use)
            raise

    def _ask(self) -> paramiko.Channel:
        try:
            return self.transport.open_session(timeout=self.timeout)
        except paramiko.ChannelException:
            raise
        except paramiko.SSHException as error:
            # Of two threads that are refused at once, paramiko tells only one why.
            if self.transport.is_active() and str(error) == "Unable to open channel.":
                raise _none(str(error)) from error
            raise

    def _learn(self, allowed: int) -> None:
        with self._lock:
            if allowed < 1 or (self.allowed is not None and self.allowed <= allowed):
                return
            known, self.allowed = self._scarce, allowed
            # What was opened ahead takes the room of what is needed.
            idle = [] if self._spare else list(self._ahead)
            if idle:
                self._ahead.clear()
        for ahead in idle:
            ahead.add_done_callback(_close)
        if self._scarce and not known:
            self.on_scarce(allowed)


def _close(opened: Future[paramiko.Channel]) -> None:
    if not opened.exception():
        opened.result().close()


def _none(why: str) -> paramiko.ChannelException:
    return paramiko.ChannelException(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, why)


def request(channel: paramiko.Channel, kind: str, value: bytes) -> None:
    """Ask for a command (`exec`) or a `subsystem`, without waiting for the answer as paramiko does: what is
    sent next travels along. A refusal closes the channel. (RFC 4254, section 6.5)
    """
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(True)
    message.add_string(value)
    channel._event_pending()
    channel.transport._send_user_message(message)


def refused(channel: paramiko.Channel) -> bool:
    """Whether what request() asked for was refused: the channel was closed, and there was no "yes" before."""
    return bool(channel.closed and channel.event.is_set() and not channel.event_ready)
