"""One host under one command: named steps, the lock, and what the host says about itself.

What a deployment, a rollback and a cache-sync have in common.
"""

from __future__ import annotations

import contextlib
import posixpath
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager

from .. import interruption
from ..background import background
from ..errors import ConnectionFailed, ConnectionLost, FilesError, Locked, LockLost, Stopped, SwitchoverError
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import Result, Script
from ..results import HostResult
from ..settings import Settings
from ..site import state
from ..site.layout import Layout
from ..site.lock import LEASE, NOT_OURS, RENEW, Lease, Lock, Owner
from .steps import BatchedSteps, Steps, Tell

# Errors that no broken lock can have caused.
NOT_OF_THE_LOCK = (ConnectionFailed, ConnectionLost, Locked, LockLost, Stopped)


class HostSession:
    """One host, one command: named steps, the lock, and what the host says about itself.

    halt: set when another host has failed; the next step then does not start.
    """

    def __init__(self, host: Host, settings: Settings, owner: Owner, halt: threading.Event) -> None:
        settings.require("deploy_to")
        whole, owner = owner, owner.again()  # a lock is one host's: of two names of one place one gets it
        self.host = host
        self.settings = settings
        self.layout = Layout(settings.deploy_to or "")
        self.lock = Lock(host, self.layout, owner, whole.token)
        self.jobs = Jobs(
            host.shell, f"{self.layout.jobs}/{owner.token}", lambda text: host.note("warn", text)
        )
        within = settings.confirm.within if settings.confirm else LEASE
        self.lease = Lease(self.lock, min(RENEW, within / 3))
        self.result = HostResult(host.name)
        self.steps = Steps(host, self.result, halt, self.lock_lost)
        self.state: state.State = None  # type: ignore[assignment]
        self._asked_about: SwitchoverError | None = None

    @property
    def step(self) -> Callable[[str], AbstractContextManager[Tell]]:
        """See Steps.step."""
        return self.steps.step

    @contextmanager
    def cut_short(self, seconds: float) -> Iterator[None]:
        """For hooks on the way back: a further signal ends them with Stopped, and so do `seconds` after an
        earlier one.
        """
        connection = self.host.connection
        kept, connection.interrupted = connection.interrupted, interruption.Patience(seconds)
        try:
            yield
        finally:
            connection.interrupted = kept

    def lock_lost(self, error: SwitchoverError) -> SwitchoverError:
        """The error as it is, or LockLost where the guard, asked now, says that the lock is not ours.

        Whatever else went wrong may come from that: whoever takes the lock ends our jobs. What was printed
        says nothing about it, since hooks print what they like.
        """
        if self.lock.number is None or error is self._asked_about or isinstance(error, NOT_OF_THE_LOCK):
            return error
        self._asked_about = error
        with contextlib.suppress(SwitchoverError):
            asked = self.host.shell.run(self.guard, what="Looking at the lock", check=False, repeat=False)
            if asked.status == NOT_OURS:
                return LockLost(
                    f"The lock on {self.host.name} was broken while this command ran.",
                    "somebody used `fab unlock --force`, or took the lock after that",
                    "Nothing more was changed. Ask who did, then start again.",
                )
        return error

    @property
    def guard(self) -> str:
        """The first words of each script that changes something."""
        return self.lock.guard

    def begin(self) -> None:
        """Connect, take the lock, read the state. Meanwhile see whether shell and SFTP agree."""
        with self.step("connect") as tell:
            tell(self._connect())
        warm = background(self.host.files.warm)
        with self.step("lock") as tell:
            asking = self._asking_state()
            dead, said = self.lock.take(asking)
            if dead:
                tell(f"taken from {dead}: it ended without giving it back")
            self.lease.start()
            self.jobs.guard = self.guard
        self.host.files.pending = background(lambda: self._check_view(warm))
        with self.step("check") as tell:
            self._take_state(state.parse(said, asking.what, self.layout))
            tell(f"{self.host.facts.user} on {self.host.facts.machine}")
            self.require_tools()
            if self.settings.ssh.sftp == "require" or self.settings.transfer == "sftp":
                self.host.files.settle()

    def require_tools(self) -> None:
        """Raise HostNotReady where the host lacks what a later step needs."""

    def look(self) -> None:
        """Connect and read the state; change nothing."""
        with self.step("connect") as tell:
            tell(self._connect())
        with self.step("check"):
            asking = self._asking_state()
            facts, said = self.host.shell.batch([self.host.asking, asking])
            self.host.learn(facts.text)
            self._take_state(state.parse(said, asking.what, self.layout))

    def _connect(self) -> str:
        self.host.connect()
        return f"{self.host.connection.user}@{self.host.connection.host}"

    def _asking_state(self) -> Script:
        return state.asking(self.layout, (*self.settings.shared.dirs, *self.settings.shared.files))

    def _take_state(self, found: state.State) -> None:
        """Raises HostNotReady where `current` can't be switched."""
        before, self.state = self.state, found
        found.require_link(self.layout)
        self.result.previous = self.result.live = found.live
        for name in found.damaged:
            if before is None or name not in before.damaged:
                self.host.note("warn", f"the record of release {name} can't be read; it is left alone")
        for odd in found.odd:
            if before is None or odd not in before.odd:
                self.host.note("warn", odd)

    def take_over(self) -> None:
        """End the jobs that other commands have left, wait for those of the one that we go on with, and see
        what they have done meanwhile.
        """
        if self.state.jobs:
            self.jobs.end_others()
            self.jobs.settle()
            asking = self._asking_state()
            (said,) = self.host.shell.batch([asking])
            self._take_state(state.parse(said, asking.what, self.layout))

    def _check_view(self, warm: Future[None]) -> str:
        """Whether SFTP sees what the shell has just written; where not, checks go over SSH."""
        warm.result()
        files = self.host.files
        if not files.uses_sftp:
            return "checks over SSH, as ssh.sftp: off says"
        why = f"SFTP does not see {self.lock.token_link}, which the shell has just written"
        try:
            if files.sftp.readlink(self.lock.token_link) == self.lock.owner.token:
                return "shell and SFTP agree"
            if root := self._chroot():
                files.sftp.root = root
                return f"shell and SFTP agree; SFTP's / is {root}"
        except FilesError as error:
            why = f"{error.what} {error.why}"
        files.fall_back(why)
        return "checks over SSH"

    def _chroot(self) -> str:
        """The directory that SFTP calls /, if a chroot is all that keeps the views apart."""
        root = posixpath.dirname(self.layout.deploy_to)
        sftp = self.host.files.sftp
        if sftp.root:
            return ""
        for candidate in [self.layout.deploy_to, *_upwards(root)]:
            sftp.root = candidate
            if sftp.readlink(self.lock.token_link) == self.lock.owner.token:
                return candidate
        sftp.root = None
        return ""

    def unlock(self) -> None:
        """Give the lock back, if we have it."""
        if self.lock.number is not None:
            with self.step("unlock"):
                self.lease.stop()
                self.host.shell.run(self._unlocking, what="Unlocking")
                self.lock.number = None

    @property
    def _unlocking(self) -> str:
        return self.jobs.ending(self.lock.returning)

    def close(self, parts: Sequence[Script], step: str) -> list[Result]:
        """Run the last `parts`, of the step `step`, and give the lock back in the same round trip; what the
        parts left.
        """
        steps = BatchedSteps(self.steps, [step] * len(parts) + ["unlock"])
        unlocking = Script("Unlocking", self._unlocking)
        with steps.running():
            results = self.host.shell.batch([*parts, unlocking], guard=self.guard, ended=steps.ended)
        self.lease.stop()  # not before: to remove a large release takes longer than a lease
        self.lock.number = None
        return results[:-1]


def _upwards(path: str) -> Iterator[str]:
    while path and path != "/":
        yield path
        path = posixpath.dirname(path)
