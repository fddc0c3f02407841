"""One host: its shell, its files, what it is able to do."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import fabric

from ..background import background
from ..errors import HostNotReady
from ..events import Listener, Note, silent
from ..settings import Ssh
from .connection import Connection
from .files import Files
from .shell import Part, Result, Shell, quote

# Programs that change what a deployment can do. The plain POSIX ones are taken for granted.
PROGRAMS = ("tar", "zstd", "gzip", "rsync", "stat", "sha256sum", "curl", "wget", "setsid")


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

    name: how reports call it; unique within one command.
    """

    def __init__(self, name: str, connection: Connection, listener: Listener = silent) -> None:
        rules = connection.rules
        self.name = name
        self.identity: str | None = None  # the key file that was named for it, if one was
        self.connection = connection
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
        connection.on_reconnect = lambda cause, seconds: self.note(
            "warn", f"reconnected after {seconds:.1f} s: {cause}"
        )
        connection.on_note = self.note

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
            self.learn(self.shell.run(_FACTS, what="Looking at the host").text)
        assert self._facts is not None
        return self._facts

    @property
    def asking(self) -> Part:
        """What asks for the facts, for a batch; its output is for learn()."""
        return Part("Looking at the host", ":" if self._facts else _FACTS)

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

    def run_lines(self, commands: Iterable[str], what: str, guard: str = "") -> Result:
        """Run a script of any length, as standard input of one sh: all of it or, if it is cut, nothing.

        guard: a script run before it, as an argument; when it fails nothing else runs.
        """
        body = "\n".join(commands).encode("utf-8", "surrogateescape")
        # sh reads to the closing brace before it starts, so half a script is a syntax error, not half a job.
        program = b"{ set -e\n" + body + b"\n:\n}\n"

        def blocks() -> Iterable[bytes]:
            return (program[i : i + 65536] for i in range(0, len(program), 65536))

        return self.shell.run(f"{guard}sh -s", stdin=blocks, what=what)

    def close(self) -> None:
        """Let the connection go."""
        self.files.close()
        self.connection.close()


def connect(
    name: str,
    address: str,
    rules: Ssh,
    config: fabric.Config | None = None,
    listener: Listener = silent,
    **how: Any,
) -> Host:
    """A Host for `address` ([user@]host[:port]); the connection is opened at first use."""
    return Host(name, Connection(address, rules, config or fabric.Config(), **how), listener)


def write_file(path: str, text: str) -> str:
    """Commands that put `text` at `path`, by temp + rename."""
    return f"printf %s {quote(text)} > {quote(path + '.new')} && mv -f {quote(path + '.new')} {quote(path)}"


_FACTS = f"""
printf 'user\\t%s\\n' "$(id -un 2>/dev/null || id -u)"
printf 'machine\\t%s\\n' "$(hostname 2>/dev/null || uname -n)"
for p in {" ".join(PROGRAMS)}; do command -v "$p" >/dev/null 2>&1 && printf 'program\\t%s\\n' "$p"; done
cp --help 2>&1 | grep -q -- --reflink && printf 'cp_reflink\\t1\\n'
mv --help 2>&1 | grep -q -- '-T' && printf 'mv_no_target\\t1\\n'
find / -maxdepth 0 -printf '%C@' >/dev/null 2>&1 && printf 'find_printf\\t1\\n'
printf 'cores\\t%s\\n' "$(nproc 2>/dev/null)"
:
"""


def _parse(text: str) -> Facts:
    rows = [line.split("\t", 1) for line in text.splitlines() if "\t" in line]
    said = dict(rows)
    return Facts(
        said.get("user", "?"),
        said.get("machine", "?"),
        frozenset(value for key, value in rows if key == "program"),
        "cp_reflink" in said,
        "mv_no_target" in said,
        "find_printf" in said,
        int(said.get("cores") or 1),
    )
