"""Session channels, with some always opened ahead: a command then costs one round trip instead of two."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from ..background import background

SPARE = 2  # sessions: what two threads need at once
OPENED_WITHIN = 60.0  # seconds for the server's answer to a channel


class Sessions:
    """The sessions of one transport. Thread-safe."""

    def __init__(self, transport: paramiko.Transport, timeout: float = OPENED_WITHIN) -> None:
        self.transport = transport
        self.timeout = timeout
        self._lock = threading.Lock()
        self._ahead: deque[Future[paramiko.Channel]] = deque()
        self._spare = SPARE

    def take(self) -> paramiko.Channel:
        """An open session, nothing of it used yet. Raises what Transport.open_session raises."""
        with self._lock:
            ahead = self._ahead.popleft() if self._ahead else None
        channel = self._opened(ahead)
        with self._lock:
            while len(self._ahead) < self._spare:
                self._ahead.append(self._ask())
        return channel

    def _opened(self, ahead: Future[paramiko.Channel] | None) -> paramiko.Channel:
        if ahead is not None:
            try:
                channel = ahead.result()
                if not channel.closed:
                    return channel
            except paramiko.ChannelException:
                self._spare = 0  # the server allows too few
        return self.transport.open_session(timeout=self.timeout)

    def _ask(self) -> Future[paramiko.Channel]:
        """paramiko sends the request and waits in one call, so that needs a thread."""
        return background(lambda: self.transport.open_session(timeout=self.timeout))


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
