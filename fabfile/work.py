"""One host under one command: named steps, the lock, and what the host says about itself.

What a deployment, a rollback and a cache-sync have in common.
"""

from __future__ import annotations

import contextlib
import posixpath
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from .background import background
from .errors import (
    CommandFailed,
    ConnectionFailed,
    ConnectionLost,
    FilesError,
    HealthCheckFailed,
    Locked,
    LockLost,
    Stopped,
    SwitchoverError,
)
from .events import Output, StepFailed, StepFinished, StepStarted
from .release import deadman, hooks, records, state, switch
from .release.layout import Layout
from .release.lock import LEASE, NOT_OURS, RENEW, Lease, Lock, Owner
from .release.manifest import Difference
from .release.records import Record
from .remote.host import Host
from .remote.jobs import Jobs
from .remote.shell import Part, Result
from .settings import Settings
from .steps import Steps

SHOWN = 10  # paths named in a message
# Errors that no broken lock can have caused.
NOT_OF_THE_LOCK = (ConnectionFailed, ConnectionLost, Locked, LockLost, Stopped)


@dataclass
class HostResult:
    """What became of one host: the `hosts` entry of CONTRACT's JSON."""

    host: str
    ok: bool = True
    release: str | None = None
    previous: str | None = None
    strategy: str = ""
    transfer: str = ""
    copy: str = ""
    files_uploaded: int = 0
    files_deleted: int = 0
    bytes_uploaded: int = 0
    reconnects: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    error: SwitchoverError | None = None
    plan: Difference | None = None
    drift: dict[str, list[str]] | None = None
    failed_in: str = ""  # the step


class Work:
    """One host, one command: named steps, the lock, and what the host says about itself.

    halt: set when another host has failed; the next step then does not start.
    """

    def __init__(self, host: Host, settings: Settings, owner: Owner, halt: threading.Event) -> None:
        settings.require("deploy_to")
        self.host = host
        self.settings = settings
        self.layout = Layout(settings.deploy_to or "")
        self.lock = Lock(host, self.layout, owner)
        self.jobs = Jobs(
            host.shell, f"{self.layout.jobs}/{owner.token}", lambda text: host.note("warn", text)
        )
        within = settings.confirm.within if settings.confirm else LEASE
        self.lease = Lease(self.lock, min(RENEW, within / 3))
        self.halt = halt
        self.result = HostResult(host.name)
        self.state: state.State = None  # type: ignore[assignment]
        self._asked_about: SwitchoverError | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A named step: timed, told, and turned into LockLost where somebody broke our lock.

        Gives a function that sets the phrase told about it.
        """
        if self.halt.is_set():
            raise Stopped(f"{self.host.name} was stopped before {name}, because another host failed.")
        started, detail = time.monotonic(), [""]
        self.host.emit(StepStarted(self.host.name, name))
        try:
            yield lambda text: detail.__setitem__(0, text)
        except SwitchoverError as error:
            raise self.failed(name, started, error) from error
        self.finished(name, started, detail[0])

    def finished(self, name: str, started: float, detail: str = "") -> None:
        """Tell that a step has ended well. started: by time.monotonic()."""
        self.host.emit(StepFinished(self.host.name, name, self._took(name, started), detail))

    def failed(self, name: str, started: float, error: SwitchoverError) -> SwitchoverError:
        """Tell that a step has failed; the error to raise."""
        told = self.lock_lost(error)
        self.host.emit(StepFailed(self.host.name, name, self._took(name, started), told.what))
        self.result.failed_in = self.result.failed_in or name
        return told

    def _took(self, name: str, started: float) -> float:
        seconds = time.monotonic() - started
        self.result.phases[name] = round(self.result.phases.get(name, 0) + seconds, 3)
        return seconds

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
                tell(f"taken from {dead}, which has not given it back")
            self.lease.start()
            self.jobs.guard = self.guard
        self.host.files.pending = background(lambda: self._check_view(warm))
        with self.step("check") as tell:
            self._take_state(state.parse(said, asking.what, self.layout))
            tell(f"{self.host.facts.user} on {self.host.facts.machine}")
            if self.settings.ssh.sftp == "require" or self.settings.transfer == "sftp":
                self.host.files.settle()

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

    def _asking_state(self) -> Part:
        return state.asking(self.layout, (*self.settings.shared.dirs, *self.settings.shared.files))

    def _take_state(self, found: state.State) -> None:
        """Raises HostNotReady where `current` can't be switched."""
        before, self.state = self.state, found
        found.require_link(self.layout)
        self.result.previous = found.live
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

    def close(self, parts: Sequence[Part], step: str) -> list[Result]:
        """Run the last `parts`, of the step `step`, and give the lock back in the same round trip; what the
        parts left.
        """
        steps = Steps(self, [step] * len(parts) + ["unlock"])
        unlocking = Part("Unlocking", self._unlocking)
        with steps.running():
            results = self.host.shell.batch([*parts, unlocking], guard=self.guard, ended=steps.ended)
        self.lease.stop()  # not before: to remove a large release takes longer than a lease
        self.lock.number = None
        return results[:-1]

    def run_hooks(
        self, name: str, commands: tuple[str, ...], folder: str, release: str, revision: str
    ) -> None:
        """Run the hooks called `name` on the host, as one step."""
        if not commands:
            return
        environment = {
            "SWITCHOVER_APPLICATION": self.settings.application or "",
            "SWITCHOVER_DEPLOY_TO": self.layout.deploy_to,
            "SWITCHOVER_RELEASE": release,
            "SWITCHOVER_RELEASE_PATH": self.layout.release(release),
            "SWITCHOVER_REVISION": revision,
        }
        with self.step(name):
            hooks.run(
                self.jobs,
                name,
                commands,
                folder,
                environment,
                lambda line: self.host.emit(Output(self.host.name, name, line)),
            )

    def check_health(self) -> None:
        """The health check, if there is one."""
        health = self.settings.health
        if health:
            with self.step("health"):
                hooks.check_health(self.host, health.url, health.expect_status, int(health.timeout))

    def point_current(self, release: str, *first: Part) -> None:
        """Make `release` live. first: what goes before it, in the same round trip."""
        with self.step("switch") as tell:
            self.tried_to_switch = True
            self._arm(release)
            switch.point(self.host, self.layout, f"releases/{release}", self.guard, first)
            self.switched = True
            tell(f"{self.state.shown} → {release}, {self.host.files.settle()}")

    def _arm(self, release: str) -> None:
        confirm, old = self.settings.confirm, self.state.target
        if confirm is None:
            return
        deadman.arm(
            self.host,
            self.jobs,
            self.layout,
            release,
            old,
            self.lock.owner_file,
            confirm.within,
            self.when_left_alone(self.silence),
        )

    @property
    def silence(self) -> str:
        """Why the host goes back by itself."""
        within = self.settings.confirm.within if self.settings.confirm else 0
        return f"nothing was heard of us for {within} s after the switch"

    def when_left_alone(self, reason: str) -> str:
        """What the host writes down when it goes back by itself."""
        return ":"

    def confirm(self) -> None:
        """The new release has proved itself: disarm the timer. Raises HealthCheckFailed."""
        if self.settings.confirm is None:
            return
        with self.step("confirm"):
            if not deadman.disarm(self.host, self.jobs):
                raise HealthCheckFailed(
                    f"{self.host.name} has gone back by itself.",
                    f"it heard nothing of us for {self.settings.confirm.within} s (confirm.within)",
                    "See why the connection was lost; raise confirm.within if the network needs longer.",
                )

    tried_to_switch = False  # from here on the link may be either
    switched = False

    def point_back(self, bad: Record | None) -> Record | None:
        """Put back what was live before; `bad` as it was written then.

        Safe where the switch did not happen, or only half.
        """
        with self.step("switch back") as tell:
            # Where the rename was refused, nothing is to be put back, and a second one would be refused too.
            seen, lost = (
                self.host.files.readlink(self.layout.current),
                isinstance(self.result.error, LockLost),
            )
            if lost and seen != f"releases/{self.result.release}":
                return bad  # nothing here is ours any more
            if seen != self.state.target:
                switch.point(self.host, self.layout, self.state.target, self.guard)
            tell(f"{self.state.shown} is live again")
        if bad is None:
            return None
        if self.switched and seen == self.state.target and self.settings.confirm:
            bad = replace(bad, note=self.silence)  # the host has gone back by itself
        try:
            self.host.shell.run(f"{self.guard}{records.write(self.layout, bad)}", what="Writing the record")
        except CommandFailed as error:  # what is live is as it was, and that is what counts
            self.host.note("warn", f"{error.what} {error.why}")
        return bad


def _upwards(path: str) -> Iterator[str]:
    while path and path != "/":
        yield path
        path = posixpath.dirname(path)


def some(paths: list[str]) -> str:
    """The first paths, for a message."""
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(repr(path) for path in paths[:SHOWN]) + rest
