"""The SFTP side: checks. Where a link points, whether it is a directory, what is in it.

`SftpFiles` asks over SFTP, `ShellFiles` the same questions over SSH. `Files` is what the rest of the
project uses: it starts with SFTP and, where `ssh.sftp` is `auto`, goes on over SSH when SFTP can't be
had, and says so.
"""

from __future__ import annotations

import contextlib
import math
import posixpath
import secrets
import stat as modes
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import paramiko
from paramiko.sftp import CMD_ATTRS, CMD_EXTENDED, CMD_LSTAT, CMD_NAME, CMD_READLINK, SFTP_NO_SUCH_FILE

from ..background import background
from ..errors import FilesError, LinkLost
from .answers import decimal, not_understood
from .bare import open_sftp
from .connection import LINK_ERRORS, Connection
from .shell import Shell, quote

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0  # seconds for one SFTP answer
LOOK_AGAIN = 0.008  # seconds between the first looks of a watch
READ_LIMIT = 1 << 20  # bytes; what is read over SFTP are links, records and nonces


@dataclass(frozen=True)
class Stat:
    """What lstat says: `kind` is file, dir, link or other; `mode` its permission bits; `size` bytes."""

    kind: str
    mode: int
    size: int


@dataclass(frozen=True)
class Seen:
    """A path at a glance: what lstat says (None: nothing is there), and a link's target."""

    stat: Stat | None
    target: str | None


@dataclass(frozen=True)
class Space:
    """Room on a file system: bytes and inodes free for this account. None: it does not count them."""

    free: int
    free_inodes: int | None


Final = Callable[[dict[str, Seen]], bool]
_GLANCE = (CMD_LSTAT, CMD_READLINK)


class Checks(Protocol):
    """The questions; paths are absolute, as the shell calls them."""

    def lstat(self, path: str) -> Stat | None:
        """None where there is nothing."""

    def readlink(self, path: str) -> str | None:
        """Where the link points, as written; None where there is no link."""

    def look(self, paths: Sequence[str]) -> dict[str, Seen]:
        """lstat and readlink of all these paths, in one round trip."""

    def realpath(self, path: str) -> str | None:
        """The path without links; None where it leads nowhere."""

    def listing(self, path: str) -> list[str] | None:
        """The names in a directory, sorted; None where there is none."""

    def read(self, path: str) -> bytes | None:
        """A small file's content, at most READ_LIMIT bytes; None where there is none."""

    def space(self, path: str) -> Space:
        """The room on the file system that holds `path`."""


class SftpFiles:
    """Checks over SFTP. The client is reopened whenever it was closed, never trusted to be alive.

    root: what SFTP's / is called by the shell, where SFTP is chrooted. on_reopen is called where the server
    has closed the channel under us.
    """

    def __init__(
        self,
        connection: Connection,
        root: str | None = None,
        on_reopen: Callable[[], None] = lambda: None,
    ) -> None:
        self.connection = connection
        self.root = root
        self.on_reopen = on_reopen
        self._client: paramiko.SFTPClient | None = None

    def client(self) -> paramiko.SFTPClient:
        """A living client. Raises FilesError when there is no SFTP, LinkLost when the link is dead."""
        if self._client and not self._client.get_channel().closed and self.connection.alive:
            return self._client
        try:
            client = open_sftp(self.connection.create_session(), REQUEST_TIMEOUT)
        except (*LINK_ERRORS, paramiko.SFTPError) as error:
            if not self.connection.still_alive():
                raise LinkLost("The connection died.", self.connection.why_dead()) from error
            raise FilesError(
                "The host offers no SFTP.",
                f"opening the sftp subsystem: {type(error).__name__}: {error}",
                "Have `Subsystem sftp internal-sftp` set in its sshd_config, or set ssh.sftp: off.",
            ) from error
        client.get_channel().settimeout(REQUEST_TIMEOUT)
        if self._client and self._client.get_channel().get_transport() is self.connection.transport:
            self.on_reopen()
        self._client = client
        return client

    def close(self) -> None:
        """Let go of the channel. Never raises: saying goodbye to a dead peer is no failure."""
        if self._client:
            with contextlib.suppress(*LINK_ERRORS):
                self._client.close()
            self._client = None

    def view(self, path: str) -> str:
        """What SFTP calls the shell's `path`."""
        if not self.root:
            return path
        inside = posixpath.relpath(path, self.root)
        if inside == ".." or inside.startswith("../"):
            raise FilesError(
                f"SFTP can't see {path}.",
                f"ssh.sftp_root says that SFTP's / is {self.root}",
                "Correct ssh.sftp_root, or set ssh.sftp: off.",
            )
        return posixpath.join("/", inside)

    def lstat(self, path: str) -> Stat | None:
        attributes = self._ask("lstat", path, lambda c, p: c.lstat(p))
        if attributes is None:
            return None
        return _stat(attributes)

    def readlink(self, path: str) -> str | None:
        return self._ask("readlink", path, lambda c, p: c.readlink(p))

    def look(self, paths: Sequence[str]) -> dict[str, Seen]:
        found = self._ask("stat", posixpath.commonpath(paths), lambda c, _: self._look(c, paths))
        assert found is not None
        return found

    def _look(self, client: Any, paths: Sequence[str]) -> dict[str, Seen]:
        return _Look(client, {path: self.view(path) for path in paths}).answer()

    def watch(self, paths: Sequence[str], final: Final, done: threading.Event) -> dict[str, Seen] | None:
        """Look at `paths` again and again until `done`, without waiting for answers. The first sight that is
        `final`; None where none was, or where the link broke: it is for the shell to come back.
        """
        client = self._client
        if client is None or client.get_channel().closed or not self.connection.alive:
            return None
        try:
            names = {path: self.view(path) for path in paths}
            started, looks = time.monotonic(), [_Look(client, names)]
            passed, answered = 0.0, math.inf  # seconds; the latter: until the first answer was here
            # Where the next look is as far away as an answer, to ask when all is done takes no longer.
            while (gap := max(LOOK_AGAIN, passed / 5)) <= max(LOOK_AGAIN, answered) and not done.wait(gap):
                passed = time.monotonic() - started
                if client.get_channel().recv_ready():
                    answered = min(answered, passed)
                looks.append(_Look(client, names))
            return next((seen for look in looks if final(seen := look.answer())), None)
        except (*LINK_ERRORS, FilesError):
            return None

    def realpath(self, path: str) -> str | None:
        # OpenSSH answers realpath of a missing last part with success: ask stat first.
        if self._ask("stat", path, lambda c, p: c.stat(p)) is None:
            return None
        found = self._ask("realpath", path, lambda c, p: c.normalize(p))
        return posixpath.join(self.root, found.lstrip("/")) if self.root and found else found

    def listing(self, path: str) -> list[str] | None:
        names = self._ask("listing", path, lambda c, p: c.listdir(p))
        return None if names is None else sorted(names)

    def read(self, path: str) -> bytes | None:
        def fetch(client: paramiko.SFTPClient, name: str) -> bytes:
            with client.open(name, "rb") as file:
                return bytes(file.read(READ_LIMIT))

        return self._ask("reading", path, fetch)

    def space(self, path: str) -> Space:
        found = self._ask("statvfs", path, _statvfs)
        if found is None:
            raise FilesError(f"SFTP does not see {path}.", "statvfs: no such file")
        return found

    def rename_over(self, old: str, new: str) -> None:
        """Replace `new` by `old` in one step (posix-rename@openssh.com)."""
        self._ask("rename", old, lambda c, p: c.posix_rename(p, self.view(new)))

    def _ask(self, what: str, path: str, question: Callable[[Any, str], T]) -> T | None:
        def once() -> T | None:
            client = self.client()
            try:
                return question(client, self.view(path))
            except FileNotFoundError:
                return None
            except LINK_ERRORS as error:
                # EOFError comes a moment before the transport and the channel know that they are dead.
                if (
                    isinstance(error, TimeoutError | EOFError)
                    or client.get_channel().closed
                    or not self.connection.alive
                ):
                    self.close()
                    why = "no answer to an SFTP request" if isinstance(error, TimeoutError) else str(error)
                    raise LinkLost("The SFTP session died.", why or "end of file") from error
                if what == "readlink":
                    return None  # "Failure": it exists and is no link
                raise FilesError(
                    f"SFTP refused {what} of {path}.", f"{type(error).__name__}: {error}"
                ) from error

        return self.connection.persist(once)


class ShellFiles:
    """The same checks over SSH, where SFTP can't be had."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def lstat(self, path: str) -> Stat | None:
        # stat -c knows %f (raw mode) and %s on GNU and BusyBox alike.
        said = self._ask(f"[ -e {quote(path)} ] || [ -L {quote(path)} ] && stat -c '%f %s' {quote(path)}")
        return _parsed(said)

    def look(self, paths: Sequence[str]) -> dict[str, Seen]:
        mark = secrets.token_hex(8)
        names = " ".join(quote(path) for path in paths)
        script = (
            f'for p in {names}; do [ -e "$p" ] || [ -L "$p" ] && stat -c \'%f %s\' "$p"; printf {mark}; '
            f'[ -L "$p" ] && {{ readlink "$p" || exit 1; }}; printf {mark}; done'
        )
        said = (self._ask(script, strip=False) or "").split(mark)
        return {
            path: Seen(_parsed(stat), link.removesuffix("\n") or None)
            for path, stat, link in zip(paths, said[::2], said[1::2], strict=False)
        }

    def readlink(self, path: str) -> str | None:
        return self._ask(f"[ -L {quote(path)} ] && readlink {quote(path)}")

    def realpath(self, path: str) -> str | None:
        name = quote(path)
        return self._ask(
            f"if [ -d {name} ]; then cd {name} && pwd -P; "
            f"elif [ -e {name} ]; then readlink -f {name}; else false; fi"
        )

    def listing(self, path: str) -> list[str] | None:
        mark = secrets.token_hex(8)
        each = quote(f'for n; do printf "%s/{mark}" "${{n#./}}"; done')
        said = self._ask(
            f"cd {quote(path)} 2>/dev/null && echo && find . ! -name . -prune -exec sh -c {each} sh {{}} +"
        )
        return None if said is None else sorted(said.removeprefix("\n").split(f"/{mark}")[:-1])

    def read(self, path: str) -> bytes | None:
        said = self._ask(f"[ -f {quote(path)} ] && head -c {READ_LIMIT} {quote(path)}", strip=False)
        return None if said is None else said.encode("utf-8", "surrogateescape")

    def space(self, path: str) -> Space:
        said = self._ask(f"df -Pk {quote(path)} && df -Pi {quote(path)} 2>/dev/null; :") or ""
        return parse_space(said)

    def _ask(self, script: str, strip: bool = True) -> str | None:
        """stdout, without the last newline; None where the script's condition did not hold."""
        result = self.shell.run(script, check=False)
        if result.status != 0:
            if result.err.strip():
                raise FilesError("A check over SSH failed.", result.last_lines())
            return None
        text = result.text
        return text.removesuffix("\n") if strip else text


class Files:
    """The checks as the project uses them, from whichever side answers.

    mode: auto | require | off, as in ssh.sftp. on_fallback is told why, once.
    """

    def __init__(
        self,
        connection: Connection,
        shell: Shell,
        mode: str,
        root: str | None,
        on_fallback: Callable[[str], None],
        on_reopen: Callable[[], None],
    ) -> None:
        self.mode = mode
        self.sftp = SftpFiles(connection, root, on_reopen)
        self.over_ssh = ShellFiles(shell)
        self.on_fallback = on_fallback
        self.side: SftpFiles | ShellFiles = self.over_ssh if mode == "off" else self.sftp
        self.pending: Future[str] | None = None  # finds out which side it is to be, and says so

    def settle(self) -> str:
        """Wait until it is known which side answers, as each check does; which it is. Raises FilesError."""
        return self.pending.result() if self.pending else ""

    @property
    def uses_sftp(self) -> bool:
        """Whether checks still come from the other protocol."""
        return self.side is self.sftp

    def fall_back(self, why: str) -> None:
        """Go on over SSH. Raises FilesError where ssh.sftp is `require`."""
        if self.mode == "require":
            raise FilesError(
                "SFTP can't be used, and ssh.sftp is `require`.",
                why,
                "Mend the server's SFTP, or set ssh.sftp: auto to let the checks go over SSH.",
            )
        self.side = self.over_ssh
        self.on_fallback(why)

    def warm(self) -> None:
        """Open the SFTP channel before it is needed; that it can't be had shows when it is."""
        if self.uses_sftp:
            with contextlib.suppress(LinkLost, FilesError):
                self.sftp.client()

    def lstat(self, path: str) -> Stat | None:
        """See Checks.lstat."""
        return self._either(lambda side: side.lstat(path))

    def readlink(self, path: str) -> str | None:
        """See Checks.readlink."""
        return self._either(lambda side: side.readlink(path))

    def look(self, paths: Sequence[str]) -> dict[str, Seen]:
        """See Checks.look."""
        return self._either(lambda side: side.look(paths))

    @contextlib.contextmanager
    def watching(self, paths: Sequence[str], final: Final) -> Iterator[Callable[[], dict[str, Seen] | None]]:
        """While the shell is at work, look at `paths` over SFTP again and again: so what SFTP sees of it is
        here when the shell's own word is. Nothing else may ask over SFTP meanwhile.

        Gives what says, once the work is done, the first sight that was `final`; None where there was none.
        """
        done = threading.Event()
        watch = background(lambda: self._watch(paths, final, done))

        def sight() -> dict[str, Seen] | None:
            done.set()
            return watch.result()

        try:
            yield sight
        finally:
            done.set()
            watch.exception()

    def _watch(self, paths: Sequence[str], final: Final, done: threading.Event) -> dict[str, Seen] | None:
        with contextlib.suppress(FilesError):  # whoever looks next is told
            self.settle()
            return self.sftp.watch(paths, final, done) if self.uses_sftp else None
        return None

    def realpath(self, path: str) -> str | None:
        """See Checks.realpath."""
        return self._either(lambda side: side.realpath(path))

    def listing(self, path: str) -> list[str] | None:
        """See Checks.listing."""
        return self._either(lambda side: side.listing(path))

    def read(self, path: str) -> bytes | None:
        """See Checks.read."""
        return self._either(lambda side: side.read(path))

    def space(self, path: str) -> Space:
        """See Checks.space."""
        return self._either(lambda side: side.space(path))

    def close(self) -> None:
        """Let go of the SFTP channel."""
        self.sftp.close()

    def _either(self, ask: Callable[[SftpFiles | ShellFiles], T]) -> T:
        self.settle()
        try:
            return ask(self.side)
        except FilesError as error:
            if not self.uses_sftp:
                raise
            self.fall_back(f"{error.what} {error.why}")
            return ask(self.side)


def parse_space(text: str) -> Space:
    """Read `df -Pk PATH; df -Pi PATH`: the fourth column is what is free. A `-` or 0 of 0: not counted.

    Raises AnswerNotUnderstood.
    """
    rows = [line.split() for line in text.splitlines() if not line.startswith("Filesystem")]
    rows = [row for row in rows if len(row) >= 6]
    try:
        inodes = rows[1] if len(rows) > 1 and rows[1][1] not in ("-", "0") else None
        return Space(_free(rows[0][3]) * 1024, _free(inodes[3]) if inodes else None)
    except (ValueError, IndexError):
        raise not_understood("The answer of df", text) from None


def _free(column: str) -> int:
    # What is reserved for root counts as less than nothing for everybody else.
    return 0 if column.startswith("-") and decimal(column[1:]) else decimal(column)


class _Look:
    """lstat and readlink of some paths, sent without waiting for the answers. names: what SFTP calls them."""

    def __init__(self, client: Any, names: Mapping[str, str]) -> None:
        self.client = client
        self.found: dict[int, tuple[int, paramiko.Message]] = {}
        self.asked = {
            path: [client._async_request(self, kind, client._adjust_cwd(name)) for kind in _GLANCE]
            for path, name in names.items()
        }

    def answer(self) -> dict[str, Seen]:
        """Wait for the answers."""
        while len(self.found) < len(_GLANCE) * len(self.asked):
            self.client._read_response()
        return {
            path: Seen(_attributes(self.found[stat]), _target(self.found[link]))
            for path, (stat, link) in self.asked.items()
        }

    def _async_response(self, kind: int, message: paramiko.Message, number: int) -> None:
        self.found[number] = (kind, message)


def _attributes(answer: tuple[int, paramiko.Message]) -> Stat | None:
    kind, message = answer
    if kind == CMD_ATTRS:
        return _stat(paramiko.SFTPAttributes._from_msg(message))
    code = message.get_int()
    if code == SFTP_NO_SUCH_FILE:
        return None
    raise OSError(f"lstat: {message.get_text()}")


def _target(answer: tuple[int, paramiko.Message]) -> str | None:
    kind, message = answer
    if kind != CMD_NAME or message.get_int() != 1:
        return None  # it is no link
    return str(message.get_string().decode("utf-8", "surrogateescape"))


def _stat(attributes: Any) -> Stat:
    mode = attributes.st_mode or 0
    return Stat(_kind(mode), modes.S_IMODE(mode), attributes.st_size or 0)


def _parsed(said: str | None) -> Stat | None:
    """What `stat -c '%f %s'` says."""
    if not said:
        return None
    raw, size = said.split()
    return Stat(_kind(int(raw, 16)), modes.S_IMODE(int(raw, 16)), int(size))


def _statvfs(client: Any, path: str) -> Space:
    # PROTOCOL, section 3.4 (OpenSSH): bsize, frsize, blocks, bfree, bavail, files, ffree, favail, …
    _, message = client._request(CMD_EXTENDED, "statvfs@openssh.com", client._adjust_cwd(path))
    values = [message.get_int64() for _ in range(8)]
    return Space(values[1] * values[4], values[7] if values[5] else None)


def _kind(mode: int) -> str:
    if modes.S_ISREG(mode):
        return "file"
    if modes.S_ISDIR(mode):
        return "dir"
    return "link" if modes.S_ISLNK(mode) else "other"
