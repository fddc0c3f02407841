"""Whether somebody has broken our lock: whatever else goes wrong may come from that."""

from __future__ import annotations

import contextlib

from ..errors import ConnectionFailed, ConnectionLost, Locked, LockLost, Refused, Stopped, SwitchoverError
from ..on_host.lock import NOT_OURS, Lock
from ..remote.host import Host
from ..typed import command

# Errors that no broken lock can have caused.
NOT_OF_THE_LOCK = (ConnectionFailed, ConnectionLost, Locked, LockLost, Refused, Stopped)


class LostLock:
    """Finds out what errors on one host come from."""

    def __init__(self, host: Host, lock: Lock) -> None:
        self.host = host
        self.lock = lock
        self._asked_about: SwitchoverError | None = None

    def explain(self, error: SwitchoverError) -> SwitchoverError:
        """The error as it is, or LockLost where the guard, asked now, says that the lock is not ours.

        Whoever takes the lock ends our jobs. What was printed says nothing about it, since hooks print what
        they like.
        """
        if not self.lock.held or error is self._asked_about or isinstance(error, NOT_OF_THE_LOCK):
            return error
        self._asked_about = error
        with contextlib.suppress(SwitchoverError):
            asked = self.host.shell.run(
                self.lock.guard, what="Looking at the lock", check=False, repeat=False
            )
            if asked.status == NOT_OURS:
                lost = LockLost(
                    f"The lock on {self.host.name} was broken while this command ran.",
                    f"somebody used `{command('unlock', '--force')}`, or took the lock after that",
                    "Nothing more was changed. Ask who did, then start again.",
                )
                lost.step = error.step
                return lost
        return error
