"""One deployment at a time on a host, under a lease.

The lock is a row of numbered directories. `mkdir` of the next number takes it, a file `released` inside
gives it back, and only the highest number counts. So nobody ever removes a lock that somebody else may
have taken meanwhile: with rm + mkdir, two could win. The number is also what each later command checks.

The owner touches its file now and then. A lock that was not touched for LEASE seconds of the host's own
clock, and none of whose jobs runs any more, is free. So is one whose owner is provably dead: a process
of this very machine that is not there any more.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import secrets
import socket
import threading
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from .. import remote
from ..errors import HostNotReady, Locked, SwitchoverError
from ..remote.answers import decimal, json_object, not_understood, plain
from ..remote.host import Host
from ..remote.script_files import Scripts
from ..remote.shell import Result, Script, failed, quote
from .layout import Layout
from .state import not_ours

LOST = "switchover: the lock is no longer ours"
NOT_OURS = 75  # exit status of the guard where that is so
LEASE = 90  # seconds without a sign of life after which nobody is held up any longer
UNSIGNED = 5  # seconds in which whoever takes the lock signs it, or else has died over it
RENEW = 20.0  # seconds between two signs of life

LAST = 999_999_999  # of the numbers: some shells count with 32 bits
OWNER_LIMIT = 4096  # bytes; ours have about 250

_PROCESS = Scripts(remote.__name__).functions("process")
_scripts = Scripts(__package__)


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. `time` is UTC, ISO 8601."""

    user: str
    machine: str
    pid: int
    time: str
    command: str
    token: str = field(default_factory=lambda: secrets.token_hex(12))
    place: str = ""  # this boot of this machine or container: where the pid means something

    def again(self) -> Owner:
        """The same, for another lock."""
        return replace(self, token=secrets.token_hex(12))

    def __str__(self) -> str:
        return f"{self.user}@{self.machine} (pid {self.pid}) since {self.time}, running `{self.command}`"


def me(command: str) -> Owner:
    """This process as an owner."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(_shown(_user()), _shown(socket.gethostname()), os.getpid(), now, command, place=_place())


def _shown(name: str) -> str:
    """A name as others will read it: one short line."""
    return "".join(c if c.isprintable() else "?" for c in name)[:100]


def _place() -> str:
    """Tells one boot of one machine or container from every other; "" where that can't be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _dead(owner: Owner | None) -> bool:
    """Whether the owner provably runs no more: its pid is one of this machine's, and nobody has it."""
    if owner is None or not owner.place or owner.place != _place():
        return False
    return not Path(f"/proc/{owner.pid}").exists()


def _user() -> str:
    """The person where CI tells who it is, else the account."""
    return os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN") or getpass.getuser()


_ours: dict[str, tuple[str, str]] = {}  # the locks that this process has taken: by token, command and host


class Lock:
    """The lock of one deploy_to on one host, as one owner sees it. command: common to all locks of one
    command.
    """

    def __init__(self, host: Host, layout: Layout, owner: Owner, command: str = "") -> None:
        self.command = command
        self.host = host
        self.layout = layout
        self.owner = owner
        self.number: int | None = None

    def take(self, also: Script) -> tuple[Owner | None, Result]:
        """Take it, and run `also` right behind, in the same round trip: whom it was taken from, if its last
        owner had ended without releasing it, and what `also` left.

        Raises Locked with the owner's name, HostNotReady where deploy_to can't be written. That `also`
        failed is for the caller to see: the lock is ours then.
        """
        outcome, owner, left = self._try(also)
        for _ in range(4 * (UNSIGNED + 2)):
            if outcome != "held" or owner is not None:
                break
            self.host.connection.pause(0.25)  # it was taken this moment: its owner is about to sign it
            outcome, owner, left = self._try(also)
        if outcome == "held" and _dead(owner):
            assert owner is not None
            release(self.host, self.layout, owner)
            before = owner
            outcome, owner, left = self._try(also)
            owner = owner or before
        if outcome == "held" and owner:
            command, other = _ours.get(owner.token, ("", ""))
            if command and command == self.command:
                raise _same_place(self.host.name, other, self.layout)
        if outcome == "held":
            raise locked(self.host.name, owner)
        _ours[self.owner.token] = self.command, self.host.name
        return owner, left

    def _try(self, also: Script) -> tuple[str, Owner | None, Result]:
        taking = Script("Taking the lock", self._taking(), needed=False)
        facts, taken, left = self.host.shell.batch([self.host.asking, taking, also])
        self.host.learn(facts.text)
        if taken.status != 0:
            error = failed(taking.what, taken)
            user, root = self.host.facts.user, quote(self.layout.deploy_to)
            raise HostNotReady(
                f"{self.layout.deploy_to} can't be written to on {self.host.name}.",
                error.why,
                f"Make it writable for {user}, as root on the host:\nmkdir -p {root} && chown {user} {root}",
                reason=error.reason,
                status=error.status,
                output=error.output,
            )
        return *self._understood(taken.text), left

    def _understood(self, text: str) -> tuple[str, Owner | None]:
        """Whether the lock was `taken` or is `held`, and its owner, if any. Nobody goes on who does not know
        that: raises AnswerNotUnderstood, and HostNotReady where the place can't be trusted.
        """
        said = text.split("\t", 3)
        match said:
            case ["taken", self.owner.token, numbers, owner]:
                with contextlib.suppress(ValueError):
                    self.number, odd = (decimal(number) for number in numbers.split(" "))
                    if odd:
                        self.host.note("warn", f"{odd} entries of {self.layout.locks} are no locks of ours")
                    return "taken", _owner(owner)
            case ["held", self.owner.token, "", owner]:
                return "held", _owner(owner)
            case ["refused", self.owner.token, path, why] if self._makes(path):
                raise not_ours(path, why)
        raise not_understood("Whether the lock was taken", text)

    def _makes(self, path: str) -> bool:
        """Whether taking it makes that path, or relies on it."""
        ours = self.layout
        return path in (ours.deploy_to, ours.releases, ours.shared) or path.startswith(ours.own)

    def renew(self) -> None:
        """A sign of life, by the host's clock."""
        if self.number is not None:
            mine = quote(self.owner_file)
            script = f"[ ! -f {mine} ] || touch {mine}"
            self.host.beside.run(script, repeat=False, timeout=RENEW, check=False)

    @property
    def held(self) -> bool:
        """Whether we have taken it."""
        return self.number is not None

    def forget(self) -> None:
        """It was given back, or is left to run out."""
        self.number = None

    @property
    def guard(self) -> str:
        """A script's first words: it stops where the lock is no longer ours."""
        if self.number is None:
            return ""
        mine = f"{self.layout.locks}/{self.number}"
        newer = f"{self.layout.locks}/{self.number + 1}"
        taken = f"[ -d {quote(newer)} ] && [ ! -L {quote(newer)} ]"
        return (
            f"if [ ! -d {quote(mine)} ] || [ -e {quote(mine + '/released')} ] || {{ {taken}; }}; "
            f"then echo {quote(LOST)} >&2; exit 75; fi; touch {quote(mine + '/owner')}; "
        )

    @property
    def owner_file(self) -> str:
        """The file that names us; its time is our last sign of life."""
        return f"{self.layout.locks}/{self.number}/owner"

    @property
    def token_link(self) -> str:
        """A link beside it that says our token: seen over SFTP with one request."""
        return f"{self.layout.locks}/{self.number}/token"

    @property
    def returning(self) -> str:
        """Commands that release it; only our own number is ever touched."""
        mine = quote(f"{self.layout.locks}/{self.number}")
        return f"[ ! -d {mine} ] || ( umask 077; : > {mine}/released )"

    def _taking(self) -> str:
        own = self.layout
        return _scripts(
            "take_lock",
            *(own.own, own.locks, own.records, own.incoming, own.jobs, own.cache_state),
            deploy_to=own.deploy_to,
            releases=own.releases,
            shared=own.shared,
            own=own.own,
            locks=own.locks,
            incoming=own.incoming,
            token=self.owner.token,
            owner=json.dumps(asdict(self.owner)),
            highest=LAST,
            **_READING,
            **_EXPIRY,
        )


# What the scripts go by.
_READING = {"owner_limit": OWNER_LIMIT}
_EXPIRY = {"lease": LEASE, "unsigned": UNSIGNED}


def locked(host: str, owner: Owner | None) -> Locked:
    """The error for a lock held by somebody else."""
    return Locked(
        f"{host} is locked by another deployment.",
        f"held by {owner}" if owner else "held by an unknown owner, who has taken it a moment ago",
        f"Wait for it to end. One that was killed holds it for {LEASE} s, or as long as its jobs run. "
        "This breaks the lock at once:",
        task=("unlock", "--force"),
    )


def _same_place(host: str, other: str, layout: Layout) -> HostNotReady:
    """The error for two names of one place in one command."""
    return HostNotReady(
        f"{host} and {other} are the same place.",
        f"the lock of {layout.deploy_to} on {host} is the one that this command has just taken on {other}",
        "Name each host once; a load balancer in front of one server counts as that server.",
    )


def holder(host: Host, layout: Layout) -> tuple[bool, Owner | None]:
    """Whether the lock is held, and by whom as far as it was signed."""
    seen = look(host, layout)
    return seen.held, seen.owner


class LockStatus(NamedTuple):
    """A lock, looked at. silent_for: seconds since its last sign of life. expired: the next deployment takes
    it. dead: its owner was a process of this machine that is gone.
    """

    held: bool
    owner: Owner | None = None
    silent_for: int = 0
    expired: bool = False
    dead: bool = False


def look(host: Host, layout: Layout) -> LockStatus:
    """What state the lock is in; changes nothing. Raises AnswerNotUnderstood."""
    script = _scripts("look_at_lock", locks=layout.locks, **_READING, **_EXPIRY)
    text = host.shell.run(script, what="Reading the lock").text
    if text == "free\t\t\t":
        return LockStatus(False)
    said = re.fullmatch(r"held\t(yes|no)\t-?([0-9]{1,18})\t(.*)", text, re.DOTALL)
    if said is None:
        raise not_understood("The answer about the lock", text)
    owner = _owner(said[3])
    return LockStatus(True, owner, int(said[2]), said[1] == "yes", _dead(owner))


def force(host: Host, layout: Layout) -> None:
    """Break the lock: its owner notices at its next step and stops before the switch."""
    host.shell.run(_breaking(layout), what="Breaking the lock")


def release(host: Host, layout: Layout, owner: Owner) -> None:
    """Release the lock in the name of an owner that is dead; nobody else's."""
    host.shell.run(_breaking(layout, owner.token), what="Releasing a dead owner's lock")


def _breaking(layout: Layout, token: str = "") -> str:
    return _scripts("break_lock", locks=layout.locks, token=token, **_READING)


class Lease:
    """Renews a lock in a thread of its own, until it is stopped."""

    def __init__(self, lock: Lock, every: float = RENEW) -> None:
        self.lock = lock
        self.every = every  # seconds
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            # A failure is of no consequence: whatever the main thread does next meets it too.
            with contextlib.suppress(SwitchoverError):
                if self.lock.host.connection.alive:
                    self.lock.renew()


def _owner(text: str) -> Owner | None:
    """The owner as the lock names it; None where nobody has signed it yet, or not as we do."""
    try:
        data = json_object(text, OWNER_LIMIT)
        if not re.fullmatch("[0-9a-f]{24}", str(data.get("token"))):
            raise ValueError("not a token")
        words = {
            key: plain(data.get(key, ""), 300) for key in ("user", "machine", "time", "command", "place")
        }
        return Owner(pid=decimal(str(data.get("pid"))), token=data["token"], **words)
    except ValueError:
        return None
