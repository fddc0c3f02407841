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
import secrets
import socket
import threading
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..errors import HostNotReady, Locked, SwitchoverError
from ..remote.host import Host, write_file
from ..remote.jobs import ALIVE
from ..remote.shell import Part, Result, failed, quote
from .layout import Layout

LOST = "switchover: the lock is no longer ours"
NOT_OURS = 75  # exit status of the guard where that is so
LEASE = 90  # seconds without a sign of life after which nobody is held up any longer
UNSIGNED = 5  # seconds in which whoever takes the lock signs it, or else has died over it
RENEW = 20.0  # seconds between two signs of life

_TOP = """
top=0
for d in *; do case $d in *[!0-9]*) ;; *) [ "$d" -gt "$top" ] && top=$d ;; esac; done
"""


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

    def __str__(self) -> str:
        return f"{self.user}@{self.machine} (pid {self.pid}) since {self.time}, running `{self.command}`"


def me(command: str) -> Owner:
    """This process as an owner."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(_user(), socket.gethostname(), os.getpid(), now, command, place=_place())


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


class Lock:
    """The lock of one deploy_to on one host, as one owner sees it."""

    def __init__(self, host: Host, layout: Layout, owner: Owner) -> None:
        self.host = host
        self.layout = layout
        self.owner = owner
        self.number: int | None = None

    def take(self, also: Part) -> tuple[Owner | None, Result]:
        """Take it, and run `also` right behind, in the same round trip: whom it was taken from, if its last
        owner had not given it back, and what `also` left.

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
        if outcome == "held":
            raise locked(self.host.name, owner)
        return owner, left

    def _try(self, also: Part) -> tuple[str, Owner | None, Result]:
        taking = Part("Taking the lock", self._taking(), needed=False)
        facts, taken, left = self.host.shell.batch([self.host.asking, taking, also])
        self.host.learn(facts.text)
        if taken.status != 0:
            error = failed(taking.what, taken)
            user, root = self.host.facts.user, quote(self.layout.deploy_to)
            raise HostNotReady(
                f"{self.layout.deploy_to} can't be written to on {self.host.name}.",
                error.why,
                f"Make it writable for {user}: mkdir -p {root} && chown {user} {root}",
            )
        said = taken.text.split("\t", 2)
        if said[0] == "taken":
            self.number = int(said[1])
        return said[0], _owner(said[-1]), left

    def renew(self) -> None:
        """A sign of life, by the host's clock."""
        if self.number is not None:
            mine = quote(self.owner_file)
            self.host.shell.run(f"[ ! -f {mine} ] || touch {mine}", repeat=False, timeout=RENEW, check=False)

    @property
    def guard(self) -> str:
        """A script's first words: it stops where the lock is no longer ours."""
        if self.number is None:
            return ""
        mine = f"{self.layout.locks}/{self.number}"
        newer = f"{self.layout.locks}/{self.number + 1}"
        return (
            f"if [ ! -d {quote(mine)} ] || [ -e {quote(mine + '/released')} ] || [ -d {quote(newer)} ]; "
            f"then echo {quote(LOST)} >&2; exit {NOT_OURS}; fi; touch {quote(mine + '/owner')}; "
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
        return f"[ ! -d {mine} ] || : > {mine}/released"

    def _taking(self) -> str:
        own = self.layout
        folders = " ".join(quote(p) for p in (own.releases, own.shared, own.locks, own.records, own.incoming))
        return f"""
mkdir -p {folders} {quote(own.cache_state)} && cd {quote(own.locks)} || exit 1
{_TOP}
{_EXPIRED}
from=
held() {{ printf 'held\\t'; cat "$1/owner" 2>/dev/null; exit 0; }}
if [ "$top" -gt 0 ] && [ ! -e "$top/released" ]; then
  if grep -q {self.owner.token} "$top/owner" 2>/dev/null; then printf 'taken\\t%s\\t' "$top"; exit 0; fi
  expired || held "$top"
  # Not with `:`, which ends the shell where the winner of a race has just removed that directory.
  from=$(cat "$top/owner" 2>/dev/null); true 2>/dev/null > "$top/released"
fi
mine=$((top + 1))
mkdir "$mine" 2>/dev/null || {{ [ -d "$mine" ] || {{ mkdir "$mine"; exit 1; }}; held "$mine"; }}
( cd "$mine" && ln -s {self.owner.token} token &&
  {write_file("owner", json.dumps(asdict(self.owner)))} ) || {{ [ ! -d "$mine" ] || exit 1; }}
{_TOP}
if [ "$top" != "$mine" ]; then true 2>/dev/null > "$mine/released"; held "$top"; fi
for d in *; do case $d in *[!0-9]*) ;; *) [ "$d" -lt "$mine" ] && rm -rf "$d" ;; esac; done
printf 'taken\\t%s\\t%s' "$mine" "$from"
"""


# Whether the lock $top has run out: no sign of life for the lease's time, and no job that runs.
_EXPIRED = f"""
{ALIVE}
expired() {{
  limit={LEASE}; [ -f "$top/owner" ] || limit={UNSIGNED}
  last=$(stat -c %Y "$top/owner" 2>/dev/null || stat -c %Y "$top" 2>/dev/null) || return 1
  [ $(($(date +%s) - last)) -gt $limit ] || return 1
  for J in ../jobs/*; do
    if [ -d "$J" ] && [ ! -f "$J/status" ] && alive; then return 1; fi
  done
}}
"""


def locked(host: str, owner: Owner | None) -> Locked:
    """The error for a lock held by somebody else."""
    return Locked(
        f"{host} is locked by another deployment.",
        f"held by {owner}" if owner else "it was taken a moment ago; its owner has not signed it yet",
        f"Wait for it to end. One that was killed holds it for {LEASE} s, or as long as its jobs run; "
        "`fab unlock --force` breaks the lock at once.",
    )


def holder(host: Host, layout: Layout) -> tuple[bool, Owner | None]:
    """Whether the lock is held, and by whom as far as it was signed."""
    script = f"""
cd {quote(layout.locks)} 2>/dev/null || exit 0
{_TOP}
if [ "$top" -gt 0 ] && [ ! -e "$top/released" ]; then printf 'held\\t'; cat "$top/owner" 2>/dev/null; fi
:
"""
    said = host.shell.run(script, what="Reading the lock").text
    return (True, _owner(said.partition("\t")[2])) if said.startswith("held") else (False, None)


@dataclass(frozen=True)
class Look:
    """A lock, looked at. silent_for: seconds since its last sign of life. expired: the next deployment takes
    it. dead: its owner was a process of this machine that is gone.
    """

    held: bool
    owner: Owner | None = None
    silent_for: int = 0
    expired: bool = False
    dead: bool = False


def look(host: Host, layout: Layout) -> Look:
    """What state the lock is in; changes nothing."""
    script = f"""
cd {quote(layout.locks)} 2>/dev/null || exit 0
{_TOP}
{_EXPIRED}
[ "$top" -gt 0 ] && [ ! -e "$top/released" ] || exit 0
expired && gone=yes || gone=no
printf 'held\t%s\t%s\t' "$gone" "$(($(date +%s) - ${{last:-0}}))"; cat "$top/owner" 2>/dev/null
:
"""
    said = host.shell.run(script, what="Reading the lock").text.split("\t", 3)
    if said[0] != "held":
        return Look(False)
    owner = _owner(said[3])
    return Look(True, owner, int(said[2]), said[1] == "yes", _dead(owner))


def force(host: Host, layout: Layout) -> None:
    """Break the lock: its owner notices at its next step and stops before the switch."""
    host.shell.run(
        f"cd {quote(layout.locks)} 2>/dev/null || exit 0\n{_TOP}\n"
        '[ "$top" -eq 0 ] || echo broken > "$top/released"',
        what="Breaking the lock",
    )


def release(host: Host, layout: Layout, owner: Owner) -> None:
    """Release the lock in the name of an owner that is dead; nobody else's."""
    mine = f'grep -q {quote(owner.token)} "$top/owner"'
    host.shell.run(
        f'cd {quote(layout.locks)} || exit 0\n{_TOP}\n{mine} && : > "$top/released"; :',
        what="Releasing a dead owner's lock",
    )


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
    try:
        return Owner(**json.loads(text))
    except (ValueError, TypeError):
        return None
