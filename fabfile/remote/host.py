"""One host: its shell, its files, what it is able to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import fabric

from ..background import background
from ..errors import CommandFailed, FilesError, HostNotReady
from ..events import Listener, Note, silent
from ..settings import Ssh
from .connection import Connection
from .files import Files
from .output import ANSWER
from .script_files import Scripts, quote
from .shell import Result, Script, Shell

# Without these there is no deployment. All but readlink and stat are POSIX's; see docs/where-it-works.md.
NEEDED = (
    "cat", "chmod", "cp", "cut", "date", "df", "find", "grep", "head", "id", "ln", "mkdir", "mv", "readlink",
    "rm", "rmdir", "sed", "sleep", "sort", "stat", "tail", "touch", "wc",
)  # fmt: skip
LACKS = 69  # the status that says that one is missing; EX_UNAVAILABLE of sysexits.h
_ANY_NEEDED = "|".join(NEEDED)

# Programs that change what a deployment can do.
PROGRAMS = ("tar", "zstd", "gzip", "rsync", "stat", "sha256sum", "curl", "wget", "setsid")

LOSSES_KEPT = 20


@dataclass(frozen=True)
class Facts:
    """What one script found out about a host."""

    user: str
    machine: str
    programs: frozenset[str]
    cp_reflink: bool  # cp knows --reflink; whether the file system does is another matter
    mv_no_target: bool  # mv knows -T
    find_printf: bool  # find knows -printf (GNU)
    cores: int


class Host:
    """A host of a deployment.

    name: how reports call it; unique within one command. identity: the key file that was named for it.
    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        listener: Listener = silent,
        identity: str | None = None,
    ) -> None:
        rules = connection.rules
        self.name = name
        self.identity = identity
        self.connection = connection
        self.losses: list[str] = []  # what has ended the connection, the last LOSSES_KEPT times
        self.emit = listener
        self.shell = Shell(connection)
        self.files = Files(
            connection,
            self.shell,
            rules.sftp,
            rules.sftp_root,
            lambda why: self.note("warn", f"checks go over SSH, because SFTP can't be used: {why}"),
            lambda: self.note("info", "the server had closed the SFTP channel; it was opened again"),
        )
        self._facts: Facts | None = None
        self._connecting: Future[None] | None = None
        self._beside: Shell | None = None
        connection.on_reconnect = self._reconnected
        connection.on_note = self.note
        connection.on_scarce = self._go_without_sftp

    def _reconnected(self, cause: str, seconds: float) -> None:
        self.losses = [*self.losses, cause][-LOSSES_KEPT:]
        self.note("warn", f"reconnected after {seconds:.1f} s: {cause}")

    def _go_without_sftp(self, _: int) -> None:
        """Give SFTP's session to the commands; where it is required, the next check says that it is gone."""
        # Without the number: a session that is just ending on the server counts there, and not here.
        why = "the server refuses further sessions on one connection (MaxSessions), and commands need them"
        with contextlib.suppress(FilesError):
            self.files.fall_back(why)
        self.files.close()

    @property
    def beside(self) -> Shell:
        """The shell for what can't wait until another command has ended: over a connection of its own where
        the server allows few sessions on each.
        """
        if not self.connection.few_sessions:
            return self.shell
        self._beside = self._beside or Shell(self.connection.again(self.connection.rules))
        return self._beside

    def connect_ahead(self) -> None:
        """Begin to connect; connect() is told how that went."""
        self._connecting = background(self._open)

    def connect(self) -> None:
        """Connect, unless we are connected. Raises ConnectionFailed and its kinds."""
        ahead, self._connecting = self._connecting, None
        ahead.result() if ahead else self._open()

    def _open(self) -> None:
        self.connection.persist(lambda: None)

    @property
    def facts(self) -> Facts:
        """What the host is able to do; asked once."""
        if self._facts is None:
            self.learn(self.shell.batch([self.asking])[0].text)
        assert self._facts is not None
        return self._facts

    @property
    def asking(self) -> Script:
        """What asks for the facts, for a batch; its output is for learn(). It fails where a program is
        missing, so nothing behind it runs.
        """
        return Script("Looking at the host", ":" if self._facts else _FACTS, explain=self._lacking)

    def _lacking(self, left: Result) -> HostNotReady | None:
        missing = re.findall(rf"^missing\t({_ANY_NEEDED})$", left.text, re.M)
        if left.status != LACKS or not missing:
            return None
        names = ", ".join(f"`{name}`" for name in missing)
        return HostNotReady(
            f"{self.name} has no {names}.",
            "neither in the account's PATH nor in the usual places, and each deployment needs it",
            "Install it there (coreutils, findutils, grep, sed; BusyBox and toybox have them all), or add "
            "its place to the account's PATH.",
        )

    def learn(self, text: str) -> None:
        """Take the facts from what the host said."""
        self._facts = self._facts or _parse(text)

    def note(self, level: str, text: str) -> None:
        """Tell a person something; level is info or warn."""
        self.emit(Note(self.name, level, text))

    def has(self, program: str) -> bool:
        """Whether `program` (one of PROGRAMS) is on the host's PATH."""
        return program in self.facts.programs

    def need(self, program: str, why: str) -> None:
        """Raise HostNotReady when `program` is missing."""
        if not self.has(program):
            raise HostNotReady(
                f"{self.name} has no `{program}`.", why, f"Install {program} there, or see the host's PATH."
            )

    def run_lines(self, commands: Iterable[str], what: str, guard: str = "", *, most: int = ANSWER) -> Result:
        """Run a script of any length, up to the first command that fails; of one that is cut, nothing.

        guard: a script run before it; when it fails nothing else runs. most: see Shell.run.
        """
        script = "\n".join([f"{guard}set -e", *commands, ":"])
        return self.shell.run(script, what=what, most=most)

    def close(self) -> None:
        """Let the connection go."""
        self.files.close()
        self.connection.close()
        if self._beside:
            self._beside.connection.close()


def connect(
    name: str,
    address: str,
    rules: Ssh,
    config: fabric.Config | None = None,
    listener: Listener = silent,
    *,
    identity: str | None = None,
) -> Host:
    """A Host for `address` ([user@]host[:port]); the connection is opened at first use.

    identity: a key file to log in with, before those that ssh_config names.
    """
    keys: dict[str, Any] = {"connect_kwargs": {"key_filename": [identity]}} if identity else {}
    return Host(name, Connection(address, rules, config or fabric.Config(), **keys), listener, identity)


def write_file(path: str, text: str) -> str:
    """Commands that put `text` at `path`, by temp + rename."""
    fresh = quote(path + ".new")
    odd = f"{{ [ ! -L {fresh} ] && [ ! -d {fresh} ]; }}"  # nothing is written through a link
    into_place = replace_file(path + ".new", path)
    return f"{{ {odd} || rm -rf {fresh}; }} && printf %s {quote(text)} > {fresh} && {into_place}"


def replace_file(fresh: str, path: str) -> str:
    """Commands that rename `fresh` to `path`; mv alone would move into a directory, or a link to one."""
    name = quote(path)
    return f"{{ [ ! -d {name} ] || rm -rf {name}; }} && mv -f {quote(fresh)} {name}"


_FACTS = Scripts(__package__)("facts", *PROGRAMS, needed=" ".join(NEEDED), lacks=LACKS)

CORES = 64  # what a copy is divided among at most

# What each row may say. Names are shown, and the user's is part of a hint.
_ROWS = {
    "user": re.compile(r"[\w.@+\\\\ -]{1,128}\$?"),
    "machine": re.compile(r"[\w.: -]{1,255}"),
    "program": re.compile("|".join(PROGRAMS)),
    "cp_reflink": re.compile("1"),
    "mv_no_target": re.compile("1"),
    "find_printf": re.compile("1"),
    "cores": re.compile("[1-9][0-9]{0,5}"),
    "end": re.compile(""),
}


def _parse(text: str) -> Facts:
    """Raises CommandFailed for anything but what the script prints."""
    rows = [line.partition("\t") for line in text.splitlines()]
    for key, tab, value in rows:
        if not tab or key not in _ROWS or not _ROWS[key].fullmatch(value):
            raise _not_understood(f"{key}{tab}{value}")
    said = {key: value for key, _, value in rows}
    if missing := {"user", "machine", "cores", "end"} - said.keys():
        raise _not_understood(f"nothing about {', '.join(sorted(missing))}")
    return Facts(
        said["user"],
        said["machine"],
        frozenset(value for key, _, value in rows if key == "program"),
        "cp_reflink" in said,
        "mv_no_target" in said,
        "find_printf" in said,
        min(int(said["cores"]), CORES),
    )


def _not_understood(said: str) -> CommandFailed:
    return CommandFailed(
        "The host's answer about itself was not understood.",
        f"it said: {said[:200]!r}",
        "See what `id -un`, `hostname` and `getconf _NPROCESSORS_ONLN` print there.",
    )
