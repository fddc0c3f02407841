"""Hosts as people have them: servers, login shells, start-up files, tools and limits, and a round on each.

A row is a way to make a host. On each: deploy, change, deploy, roll back, every file compared, the lock free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import fabric

from fabfile import fleet
from fabfile.events import Note
from fabfile.remote.host import NEEDED
from fabfile.settings import load
from tests.support import servers
from tests.support.accounts import account
from tests.support.bare_host import BareHost, all_but, boxed
from tests.support.examined import ExaminedHost
from tests.support.sshd import Sshd
from tests.support.trees import assert_same, write

SHELLS = {
    "bash": "/bin/bash", "dash": "/bin/dash", "zsh": "/bin/zsh", "mksh": "/bin/mksh", "ksh93": "/bin/ksh93",
    "yash": "/usr/bin/yash", "BusyBox sh": "/bin/busybox-sh", "fish": "/usr/bin/fish", "tcsh": "/bin/tcsh",
    "csh": "/bin/bsd-csh",
}  # fmt: skip
REFUSED = {"rbash": "/bin/rbash", "nologin": "/usr/sbin/nologin", "false": "/bin/false"}
# A start-up file of bash: each is met by people (noise, options, variables that change what tools do).
START_UPS = {
    "CDPATH": "export CDPATH=/tmp:/srv", "set -x": "set -x", "set -u": "set -u", "set -e": "set -e",
    "set -f": "set -f", "noclobber": "set -o noclobber", "POSIXLY_CORRECT": "export POSIXLY_CORRECT=1",
    "noise": "echo welcome to this host", "noise on stderr": "echo no mail >&2", "PATH=/opt": "PATH=/opt",
    "PATH empty": "export PATH=", "TAR_OPTIONS": "export TAR_OPTIONS=--verbose",
    "GREP_OPTIONS": "export GREP_OPTIONS=-v", "IFS": "export IFS=/", "umask 077": "umask 077",
    "umask 027": "umask 027", "umask 000": "umask 000", "ulimit -n 64": "ulimit -n 64",
    "LC_ALL": "export LC_ALL=de_DE.UTF-8 LANG=tr_TR.UTF-8", "cd /tmp": "cd /tmp",
    "aliases": "alias rm='rm -i' cp='cp -i' mv='mv -i' ls='ls --color'", "read": "read -r line",
    "BASH_ENV": "export BASH_ENV=/etc/profile ENV=/etc/profile", "TMPDIR missing": "export TMPDIR=/no/such",
    "function ls": "ls() { echo mine; }; export -f ls", "trap": "trap 'echo bye' EXIT",
    "BLOCK_SIZE": "export BLOCK_SIZE=1M DF_BLOCK_SIZE=1G", "sleep 1": "sleep 1",
    "two lines": "echo a\necho b",
    "GZIP": "export GZIP=-9 ZSTD_CLEVEL=19 XZ_OPT=-9", "HOME elsewhere": "export HOME=/nonexistent",
}  # fmt: skip
MISSING = (
    "awk", "curl", "gzip", "hostname", "ls", "mktemp", "nproc", "ps", "rsync", "setsid", "sha256sum", "tar",
    "tr", "uname", "wget", "xargs", "zstd",
)  # fmt: skip
SERVERS = {
    "MaxSessions 1": "MaxSessions 1", "MaxSessions 2": "MaxSessions 2", "MaxSessions 3": "MaxSessions 3",
    "RekeyLimit 1M": "RekeyLimit 1M", "no compression": "Compression no", "aes256-ctr": "Ciphers aes256-ctr",
    "chacha20 and CTR": "Ciphers chacha20-poly1305@openssh.com,aes128-ctr",
    "ForceCommand that runs ours": 'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"',
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """works: whether a deployment is to succeed, else it is refused, soon, and `because` of this."""

    name: str
    make: Callable[[], AbstractContextManager[ExaminedHost]]
    works: bool = True
    because: str = ""


@dataclass(frozen=True)
class RoundResult:
    """What became of it: the words of a refusal, "" where all was well; the notes that were told."""

    refused: str
    notes: tuple[str, ...]


@contextlib.contextmanager
def host(
    shell: str = "/bin/bash",
    start_up: str = "",
    extra: str = "",
    sftp: str | None = "internal-sftp",
    **keys: object,
) -> Iterator[ExaminedHost]:
    """An account with this login shell and start-up file on a server with these lines."""
    with account(shell) as user:
        if start_up:
            Path(f"/home/{user}/.bashrc").write_text(f"{start_up}\n")
        with Sshd(user=user, extra=extra, sftp=sftp) as server:
            yield ExaminedHost(server, deploy_to=server.new_dir(), **keys)


@contextlib.contextmanager
def bare(programs: Mapping[str, str], **keys: object) -> Iterator[ExaminedHost]:
    """A host that has these programs and no others."""
    with BareHost(programs) as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), **keys)


@contextlib.contextmanager
def dropbear(transfer: str) -> Iterator[ExaminedHost]:
    """Dropbear, with OpenSSH's sftp-server."""
    # Its keys lie in the home of the account that all tests share.
    with Path("/run/lock/switchover-test-dropbear.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with servers.dropbear() as server, Sshd() as other:
            yield ExaminedHost(server, deploy_to=other.new_dir(), transfer=transfer)


def rows(seed: int = 0, pairs: int = 0) -> list[Row]:
    """All fixed rows, and so many pairs of login shell and start-up file or server, drawn by `seed`."""
    if not Path(SHELLS["BusyBox sh"]).exists() and os.geteuid() == 0:
        Path(SHELLS["BusyBox sh"]).write_text('#!/bin/busybox sh\nexec /bin/busybox sh "$@"\n')
        Path(SHELLS["BusyBox sh"]).chmod(0o755)
    made = [Row(f"login shell {name}", lambda path=path: host(path)) for name, path in SHELLS.items()]  # type: ignore[misc]
    made += [
        Row(f"login shell {name}, transfer {how}", lambda path=path, how=how: host(path, transfer=how))  # type: ignore[misc]
        for name, path in SHELLS.items() for how in ("sftp", "rsync") if name in ("fish", "tcsh", "zsh")
    ]  # fmt: skip
    made += [
        Row(f"login shell {name}", lambda path=path: host(path), False) for name, path in REFUSED.items()
    ]  # type: ignore[misc]
    made += [
        Row(f"start-up file: {name}", lambda text=text: host(start_up=text))
        for name, text in START_UPS.items()
    ]  # type: ignore[misc]
    made += [
        Row(f"start-up file: {name}, external sftp-server",
            lambda text=text: host(start_up=text, sftp="/usr/lib/openssh/sftp-server"))  # type: ignore[misc]
        for name, text in START_UPS.items()
    ]  # fmt: skip
    made += [
        Row("start-up file: reads three lines", lambda: host(start_up="read -r a; read -r b; read -r c")),
        Row("start-up file: reads all its input", lambda: host(start_up="cat > /dev/null"), False,
            "a start-up file of the account reads all that is sent to it"),
        Row("start-up file: reads all its input, transfer sftp",
            lambda: host(start_up="cat > /dev/null", transfer="sftp"), False,
            "a start-up file of the account reads all that is sent to it"),
        Row("start-up file: stderr is stdout", lambda: host(start_up="exec 2>&1")),
        Row("start-up file: stderr is stdout, and noise, transfer sftp",
            lambda: host(start_up="exec 2>&1; echo welcome; no_such_command", transfer="sftp")),
        Row("sshd: ForceCommand that joins stderr to stdout",
            lambda: host(extra='ForceCommand sh -c "$SSH_ORIGINAL_COMMAND" 2>&1')),
    ]  # fmt: skip
    made += [Row(f"sshd: {name}", lambda extra=extra: host(extra=extra)) for name, extra in SERVERS.items()]  # type: ignore[misc]
    made += [Row(f"without {name}", lambda name=name: bare(all_but(name))) for name in MISSING]  # type: ignore[misc]
    made += [
        Row(f"without {name}", lambda name=name: bare(all_but(name)), False, f"has no `{name}`")
        for name in NEEDED
    ]  # type: ignore[misc]
    made += [
        Row(f"/bin/sh is {name}", lambda name=name: bare({**all_but("sh"), "sh": name}))  # type: ignore[misc]
        for name in ("bash", "mksh", "ksh93", "zsh", "busybox")
    ]  # fmt: skip
    made += [
        Row(f"Dropbear, transfer {how}", lambda how=how: dropbear(how)) for how in ("stream", "sftp", "rsync")
    ]  # type: ignore[misc]
    made += [
        Row(f"{box}'s programs only, /bin/sh is {sh}, transfer {how}",
            lambda box=box, sh=sh, how=how: bare(boxed(box, sh), transfer=how))  # type: ignore[misc]
        for box, sh in (("busybox", "busybox"), ("toybox", "dash"), ("toybox", "mksh"))
        for how in ("stream", "sftp")
    ]  # fmt: skip
    no_sftp = {"ssh": {"sftp": "off"}}
    made += [
        Row("toybox's programs only, and no SFTP", lambda: bare(boxed("toybox", "dash"), **no_sftp), False,
            "can't replace a link in one step"),
        Row("no SFTP", lambda: host(sftp=None)),
    ]  # fmt: skip
    draw = random.Random(seed)
    for number in range(pairs):
        shell, text = draw.choice(list(SHELLS)), draw.choice(list(START_UPS))
        other, extra = draw.choice(list(START_UPS)), draw.choice(list(SERVERS))
        name = f"drawn {seed}/{number}: {shell}, {text} and {other}, {extra}"
        both = f"{START_UPS[text]}\n{START_UPS[other]}"
        made.append(Row(name, lambda p=SHELLS[shell], t=both, x=SERVERS[extra]: host(p, t, x)))  # type: ignore[misc]
    return made


def round_on(place: ExaminedHost, source: Path) -> RoundResult:
    """Deploy, change, deploy, roll back. Raises AssertionError where something is not as it should be."""
    notes: list[str] = []
    config = place.folder / "config.yaml"

    def call(command: Callable[..., fleet.Outcome], **settings: object) -> fleet.Outcome:
        overrides = {**place.settings, "exclude": [], **settings}
        targets = [fleet.Target(place.address, str(place.identity) if place.identity else None)]
        fabrics = fabric.Config(runtime_ssh_path=str(place.folder / "ssh_config"))
        return command(
            load(None, overrides=overrides), targets, config=fabrics,
            listener=lambda e: notes.append(e.text) if isinstance(e, Note) and e.level == "warn" else None,
        )  # fmt: skip

    config.write_text("")
    current = Path(place.settings["deploy_to"]) / "current"
    write(source, {"a": "1", "d/ü b'!\\.php": "2", "d/deeper/x": "x" * 70_000})
    hook = "printf '%s\\n' 'back\\slash! \"quoted\" $HOME' > hook-was-here"
    first = call(fleet.deploy, source={"path": str(source)})
    if not first.ok:
        assert first.error
        return RoundResult(f"{first.error.what} {first.error.why}", tuple(notes))
    assert_same(source, current.resolve())
    write(source, {"a": "changed", "new": "1"})
    second = call(fleet.deploy, source={"path": str(source)}, hooks={"before_switch": [hook]})
    assert second.ok, second.error and (second.error.what, second.error.why)
    said = current.resolve() / "hook-was-here"
    assert said.read_text() == 'back\\slash! "quoted" $HOME\n', said.read_text()
    said.unlink()
    assert_same(source, current.resolve())
    back = call(fleet.rollback)
    assert back.ok, back.error and (back.error.what, back.error.why)
    assert (current / "a").read_text() == "1"
    outcome, holdings = call(fleet.unlock)  # type: ignore[misc]
    assert outcome.ok and not holdings[0].held, "the lock is still held"
    return RoundResult("", tuple(dict.fromkeys(notes)))


def sample(every: Sequence[Row]) -> list[Row]:
    """What each run of the tests tries."""
    names = (
        "login shell tcsh", "login shell fish", "login shell nologin", "start-up file: read",
        "start-up file: noise, external sftp-server", "sshd: MaxSessions 1", "Dropbear, transfer stream",
        "busybox's programs only, /bin/sh is busybox, transfer stream", "without cut",
        "start-up file: reads all its input", "sshd: ForceCommand that joins stderr to stdout",
        "toybox's programs only, /bin/sh is mksh, transfer stream",
    )  # fmt: skip
    return [row for row in every if row.name in names]
