"""One deployment at a time on a host.

The lock is a row of numbered directories. `mkdir` of the next number takes it, a file `released` inside
gives it back, and only the highest number counts. So nobody ever removes a lock that somebody else may
have taken meanwhile: with rm + mkdir, two could win. The number is also what each later command checks.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from ..errors import CommandFailed, HostNotReady, Locked
from ..remote.host import Host, write_file
from ..remote.shell import quote
from .layout import Layout

LOST = "switchover: the lock is no longer ours"

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

    def __str__(self) -> str:
        return f"{self.user}@{self.machine} (pid {self.pid}) since {self.time}, running `{self.command}`"


def me(command: str) -> Owner:
    """This process as an owner."""
    return Owner(
        _user(), socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"), command
    )


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

    def take(self) -> None:
        """Take it. Raises Locked with the owner's name, HostNotReady where deploy_to can't be written."""
        try:
            said = self.host.shell.run(self._taking(), what="Taking the lock").text.split("\t", 1)
        except CommandFailed as error:
            user, root = self.host.facts.user, quote(self.layout.deploy_to)
            raise HostNotReady(
                f"{self.layout.deploy_to} can't be written to on {self.host.name}.",
                error.why,
                f"Make it writable for {user}: mkdir -p {root} && chown {user} {root}",
            ) from error
        if said[0] != "taken":
            raise locked(self.host.name, _owner(said[1] if len(said) > 1 else ""))
        self.number = int(said[1])

    @property
    def guard(self) -> str:
        """A script's first words: it stops where the lock is no longer ours."""
        if self.number is None:
            return ""
        mine = f"{self.layout.locks}/{self.number}"
        newer = f"{self.layout.locks}/{self.number + 1}"
        return (
            f"if [ ! -d {quote(mine)} ] || [ -e {quote(mine + '/released')} ] || [ -d {quote(newer)} ]; "
            f"then echo {quote(LOST)} >&2; exit 75; fi; "
        )

    @property
    def owner_file(self) -> str:
        """The file that names us: written over SSH, and read over SFTP to see that both see one tree."""
        return f"{self.layout.locks}/{self.number}/owner"

    def give_back(self) -> None:
        """Release it; only our own number is ever touched."""
        if self.number is not None:
            mine = quote(f"{self.layout.locks}/{self.number}")
            self.host.shell.run(f"[ ! -d {mine} ] || : > {mine}/released", what="Releasing the lock")
            self.number = None

    def _taking(self) -> str:
        own = self.layout
        folders = " ".join(quote(p) for p in (own.releases, own.shared, own.locks, own.records, own.incoming))
        return f"""
mkdir -p {folders} {quote(own.cache_state)} && cd {quote(own.locks)} || exit 1
{_TOP}
if [ "$top" -gt 0 ] && [ ! -e "$top/released" ]; then
  if grep -q {self.owner.token} "$top/owner" 2>/dev/null; then printf 'taken\\t%s' "$top"; exit 0; fi
  printf 'held\\t'; cat "$top/owner" 2>/dev/null; exit 0
fi
mine=$((top + 1))
mkdir "$mine" 2>/dev/null || {{
  [ -d "$mine" ] || {{ mkdir "$mine"; exit 1; }}
  printf 'held\\t'; cat "$mine/owner" 2>/dev/null; exit 0
}}
cd "$mine" && {write_file("owner", json.dumps(asdict(self.owner)))} && cd .. || exit 1
{_TOP}
if [ "$top" != "$mine" ]; then
  : > "$mine/released"; printf 'held\\t'; cat "$top/owner" 2>/dev/null; exit 0
fi
for d in *; do case $d in *[!0-9]*) ;; *) [ "$d" -lt "$mine" ] && rm -rf "$d" ;; esac; done
printf 'taken\\t%s' "$mine"
"""


def locked(host: str, owner: Owner | None) -> Locked:
    """The error for a lock held by somebody else."""
    return Locked(
        f"{host} is locked by another deployment.",
        f"held by {owner}" if owner else "it was taken a moment ago; its owner has not signed it yet",
        "Wait for it to end. If it can't be alive any more, `fab unlock --force` breaks the lock.",
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


def force(host: Host, layout: Layout) -> None:
    """Break the lock: its owner notices at its next step and stops before the switch."""
    host.shell.run(
        f"cd {quote(layout.locks)} 2>/dev/null || exit 0\n{_TOP}\n"
        '[ "$top" -eq 0 ] || echo broken > "$top/released"',
        what="Breaking the lock",
    )


def _owner(text: str) -> Owner | None:
    try:
        return Owner(**json.loads(text))
    except (ValueError, TypeError):
        return None
