"""The SSH side: commands that change the host.

Every command is one POSIX sh script. A script travels as the one argument of `sh -c`, whatever the
account's login shell is, and data travels on its standard input.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import paramiko

from ..errors import CommandFailed, CommandTimedOut, LinkLost, classify
from .connection import LINK_ERRORS, Connection
from .sessions import request

LAST_LINES = 12  # of a failed command's output, shown to the user
ENGLISH = "LC_ALL=C; export LC_ALL; "  # messages that can be understood here; hooks keep the account's own
REST = 5.0  # seconds for a closed channel's last bytes
COMMAND = 24_000  # bytes; RFC 4253, 6.1: packets of 32768 must pass
LONG_COMMAND = 100_000  # bytes; OpenSSH takes packets of 256 KiB, and Linux arguments of 128 KiB
POLL = 0.5  # seconds between looks at the deadline while nothing moves


def quote(text: str) -> str:
    """Quote for sh. The only place where a path or any other value enters a command."""
    if "\0" in text:
        raise ValueError("a NUL can't enter a command")
    return shlex.quote(text)


@dataclass(frozen=True)
class Result:
    """What a script left: exit status, and its output as bytes."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """stdout as text; bytes that aren't UTF-8 survive as surrogates."""
        return self.out.decode("utf-8", "surrogateescape")

    def last_lines(self) -> str:
        """The end of what it said, stderr first, for an error message."""
        said = (self.err.strip() or self.out.strip()).decode("utf-8", "replace")
        return "\n".join(said.splitlines()[-LAST_LINES:])


@dataclass(frozen=True)
class Part:
    """One of several scripts that travel together. what: names it in errors; needed: else it may fail."""

    what: str
    script: str
    needed: bool = True


Ended = Callable[[int, bytes], None]


class Batch:
    """Scripts as one: a single round trip for all, each with an output of its own.

    ended: called with the number of each part, and what it printed, as it ends (from another thread); not for
           the needed one that failed.
    """

    def __init__(self, parts: Sequence[Part], ended: Ended | None = None) -> None:
        self.parts = parts
        self.ended = ended
        text = "\0".join(part.script for part in parts).encode("utf-8", "surrogateescape")
        # The same for the same scripts: a job is known by its script.
        self.mark = hashlib.sha256(text).hexdigest()[:24]
        self._told = 0
        self._seen = b""

    @property
    def script(self) -> str:
        """All parts in turn, each in a shell of its own. The first needed one that fails ends it."""
        lines = []
        for part in self.parts:
            lines.append(f"(\n{part.script}\n) </dev/null; s=$?; printf '%s %s;' {self.mark} $s")
            if part.needed:
                lines.append('[ "$s" = 0 ] || exit "$s"')
        return "\n".join([*lines, ":"])

    def feed(self, block: bytes) -> None:
        """Look for ends in the output as it comes."""
        self._seen += block
        while self.ended and (found := re.search(self._end, self._seen)):
            said, self._seen = self._seen[: found.start()], self._seen[found.end() :]
            if int(found[1]) == 0 or not self.parts[self._told].needed:
                self.ended(self._told, said)
            self._told += 1

    @property
    def _end(self) -> bytes:
        return self.mark.encode() + rb" (\d+);"

    def read(self, result: Result) -> list[Result]:
        """What each part left; stderr is that of all. Raises CommandFailed for the needed one that failed."""
        pieces = re.split(self._end, result.out)
        ends = zip(pieces[::2], pieces[1::2], strict=False)
        results = [Result(int(status), out, result.err) for out, status in ends]
        for part, left in zip(self.parts, results, strict=False):
            if part.needed and left.status != 0:
                raise failed(part.what, left)
        if result.status != 0 or len(results) < len(self.parts):
            what = self.parts[min(len(results), len(self.parts) - 1)].what
            raise failed(what, Result(result.status, pieces[-1], result.err))
        return results


def failed(what: str, result: Result) -> CommandFailed:
    """The error for a script that failed."""
    said = result.last_lines()
    return CommandFailed(
        f"{what} failed.",
        f"exit status {result.status}: {said or '(no output)'}",
        command=what,
        status=result.status,
        reason=classify(said),
    )


class Shell:
    """Runs scripts on one host, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.timeout = float(connection.rules.command_timeout)

    def run(
        self,
        script: str,
        *,
        what: str = "A command on the host",
        stdin: Callable[[], Iterable[bytes]] | None = None,
        sink: Callable[[bytes], None] | None = None,
        timeout: float | None = None,
        check: bool = True,
        repeat: bool = True,
    ) -> Result:
        """Run `script`; it must be safe to run twice unless `repeat` is False.

        what:    names the command in errors: "Copying the cache to the release".
        stdin:   called afresh for each attempt, gives the blocks to send.
        sink:    receives stdout as it comes.
        timeout: seconds without an end (counted anew while data moves); the default is ssh.command_timeout.

        Raises CommandFailed (status not 0, with `check`), CommandTimedOut, ConnectionLost, LinkLost.
        """
        limit = self.timeout if timeout is None else timeout

        def once() -> Result:
            return _Execution(self.connection, ENGLISH + script, sink, limit, what).finish(stdin)

        result = self.connection.persist(once, repeat=repeat)
        if check and result.status != 0:
            raise failed(what, result)
        return result

    def fits(self, script: str) -> bool:
        """Whether a script can travel as the command itself. On standard input it costs a round trip more:
        OpenSSH opens a session's window only when its command has started.
        """
        transport = self.connection.transport
        limit = LONG_COMMAND if transport and "OpenSSH" in transport.remote_version else COMMAND
        return len(quote(script).encode("utf-8", "surrogateescape")) < limit

    def batch(self, parts: Sequence[Part], *, guard: str = "", ended: Ended | None = None) -> list[Result]:
        """Run `parts` in one round trip, however long they are; what each of them left. They must be safe to
        run twice. guard: a script run before all; when it fails nothing else runs.

        Raises CommandFailed for the first needed part that failed, and what run() raises.
        """
        batch = Batch(parts, ended)
        sink = batch.feed if ended else None
        if self.fits(batch.script):
            result = self.run(guard + batch.script, what=parts[0].what, sink=sink, check=False)
        else:
            script = f"{{ {batch.script}\n}}\n"
            result = self.run(
                f"{guard}sh -s", what=parts[0].what, stdin=lambda: blocks(script), sink=sink, check=False
            )
        return batch.read(result)


def blocks(script: str) -> Iterable[bytes]:
    """A script as it is sent."""
    data = script.encode("utf-8", "surrogateescape")
    return (data[i : i + 65536] for i in range(0, len(data), 65536))


class _Execution:
    """One script on one channel."""

    def __init__(
        self,
        connection: Connection,
        script: str,
        sink: Callable[[bytes], None] | None,
        limit: float,
        what: str,
    ) -> None:
        self.connection = connection
        self.limit = limit
        self.what = what
        self.sink = sink
        self.touched = time.monotonic()
        self.drains: tuple[Drain, ...] = ()
        # Whatever an rc file prints comes before the marker, and is dropped with it.
        self.marker = secrets.token_hex(8).encode()
        self.command = f"exec sh -c {quote(f'printf %s {self.marker.decode()}; ' + script)}"

    def finish(self, stdin: Callable[[], Iterable[bytes]] | None) -> Result:
        try:
            channel = self.connection.create_session()
            try:
                return self._talk(channel, stdin)
            finally:
                channel.close()
                # What comes late must not reach a sink that has gone on to the next attempt.
                for drain in self.drains:
                    drain.ended.wait(REST)
        except LINK_ERRORS as error:
            if isinstance(error, paramiko.ChannelException):
                why = f"the server opens no further session (reason {error.code})"
            else:
                why = str(error) or type(error).__name__
            if not self.connection.alive:
                why = self.connection.why_dead()
            raise LinkLost("The connection died.", why) from error

    def _talk(self, channel: paramiko.Channel, stdin: Callable[[], Iterable[bytes]] | None) -> Result:
        channel.settimeout(POLL)
        request(channel, "exec", self.command.encode("utf-8", "surrogateescape"))
        out = Drain(channel.recv, self._moved, self.marker)
        err = Drain(channel.recv_stderr)
        self.drains = (out, err)
        if stdin:
            self._feed(channel, stdin())
        with contextlib.suppress(OSError):
            channel.shutdown_write()
        for drain in (out, err):
            while not drain.ended.wait(POLL):
                self._watch_time(channel)
        while not channel.status_event.wait(POLL) and self.connection.alive:
            self._watch_time(channel)
        return self._result(channel.exit_status, out, err)

    def _moved(self, block: bytes) -> None:
        self.touched = time.monotonic()
        if self.sink:
            self.sink(block)

    def _feed(self, channel: paramiko.Channel, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            self.connection.stop_if_interrupted()
            view = memoryview(block)
            while view:
                if channel.exit_status_ready() or channel.closed:
                    return  # it has ended without reading all; its status says why
                try:
                    view = view[channel.send(view) :]
                    self.touched = time.monotonic()
                except TimeoutError:
                    self._watch_time(channel)
                except OSError:
                    return

    def _watch_time(self, channel: paramiko.Channel) -> None:
        self.connection.stop_if_interrupted()
        if time.monotonic() - self.touched > self.limit:
            channel.close()
            raise CommandTimedOut(
                f"{self.what} did not end.",
                f"no end after {self.limit:g} s",
                "Raise ssh.command_timeout if it needs longer, else see on the host what it waits for.",
            )

    def _result(self, status: int, out: Drain, err: Drain) -> Result:
        if status == -1:  # paramiko's word for "no exit status came"
            raise LinkLost("The session ended without an exit status.", self._no_status())
        before, marker, after = bytes(out.data).partition(self.marker)
        if marker:
            return Result(status, after, bytes(err.data))
        said = (bytes(err.data) or before).decode("utf-8", "replace").strip()[:500]
        raise CommandFailed(
            "The host ran something else than the command it was given.",
            f"exit status {status}, and it said: {said or '(nothing)'}",
            "The account may be restricted, have a forced command, or be for SFTP only: it needs a shell.",
        )

    def _no_status(self) -> str:
        if not self.connection.alive:
            return self.connection.why_dead()
        return "the server closed the session's channel, or the shell was killed by a signal"


class Lines:
    """Cuts a stream of bytes into lines of text; a character may come in two pieces."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.partial = ""

    def feed(self, block: bytes) -> None:
        """Tell each line that is complete now."""
        *lines, self.partial = (self.partial + self.decoder.decode(block)).split("\n")
        for line in lines:
            self.tell(line.rstrip("\r"))

    def end(self) -> None:
        """Tell what has no newline behind it."""
        if self.partial:
            self.tell(self.partial)
        self.partial = ""


class Drain:
    """Reads one stream of a channel to its end, in a thread of its own.

    sink: receives each block as it comes, from behind `marker` on.
    """

    def __init__(
        self, read: Callable[[int], bytes], sink: Callable[[bytes], None] | None = None, marker: bytes = b""
    ) -> None:
        self.read = read
        self.sink = sink
        self.marker = marker
        self.data = bytearray()
        self.ended = threading.Event()
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        try:
            while True:
                try:
                    block = self.read(1 << 16)
                except TimeoutError:
                    continue
                if not block:
                    break
                self._take(block)
        except LINK_ERRORS:
            pass  # the channel is gone; whoever waits sees the missing exit status
        finally:
            self.ended.set()

    def _take(self, block: bytes) -> None:
        self.data += block
        if self.sink is None:
            return
        if self.marker:
            _, found, block = bytes(self.data).partition(self.marker)
            if not found:
                return
            self.marker = b""
        if block:
            self.sink(block)
