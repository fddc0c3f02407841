"""The SSH side: commands that change the host.

Every command is one POSIX sh script. It travels in the exec request (see `request`), or, where it is too long
for that or secret, on standard input; data for it travels on standard input too.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import paramiko

from ..errors import CommandFailed, CommandTimedOut, LinkLost, SwitchoverError, classify
from .connection import LINK_ERRORS, Connection
from .not_run import NEEDS_A_SHELL, not_ours, not_started
from .output import ANSWER, CUT, Drain
from .request import FROM_STDIN, Request, whole
from .script_files import quote as quote  # for whoever imports it from here
from .sessions import refused, request

LAST_LINES = 12  # of a failed command's output, shown to the user
LINE_SHOWN = 500  # characters of each of them
REST = 5.0  # seconds for a closed channel's last bytes
# Bytes of an exec request. Dropbear hangs up at one over 9,000; OpenSSH takes packets of 256 KiB, and Linux
# arguments of 128 KiB.
SHORT, LONG = 8_500, 100_000
POLL = 0.5  # seconds between looks at the deadline while nothing moves
STARTS_WITHIN = 120.0  # seconds for the login, its start-up files, and /bin/sh
STARTS_WITH_INPUT_WITHIN = 3.0  # seconds for the same where start-up files seem to read all input
HELD = 1.0  # seconds; as long the first input is held open, to see whether a start-up file waits for its end
LINES = 5  # that one may wait for instead
AT_ONCE = 0.3  # seconds; who starts so soon behind that end has waited for it
NUDGE = 2.0  # seconds after which a start-up file may be waiting for a line


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
        """The end of what it said, stderr first, for an error message; what was said again stands once."""
        from ..redaction import repeated  # here: only errors need it

        said = (self.err.strip() or self.out.strip()).decode("utf-8", "replace")
        lines = repeated(said.splitlines())[-LAST_LINES:]
        return "\n".join(line if len(line) <= LINE_SHOWN else f"{line[:LINE_SHOWN]}{CUT}" for line in lines)


@dataclass(frozen=True)
class Script:
    """One of several scripts that travel together. what: names it in errors; needed: else it may fail.

    id:      tells it from others where it fails: CommandFailed.script.
    explain: the error for what a needed one has left that failed; None: the general one.
    """

    what: str
    script: str
    needed: bool = True
    id: str = ""
    explain: Callable[[Result], SwitchoverError | None] | None = None


Ended = Callable[[int, bytes], None]


class Batch:
    """Scripts as one: a single round trip for all, each with an output of its own.

    ended: called with the number of each part, and what it printed, as it ends (from another thread); not for
           the needed one that failed.
    """

    def __init__(self, parts: Sequence[Script], ended: Ended | None = None) -> None:
        self.parts = parts
        self.ended = ended
        text = "\0".join(part.script for part in parts).encode("utf-8", "surrogateescape")
        # The same for the same scripts: a job is known by its script.
        self.mark = hashlib.sha256(text).hexdigest()[:24]
        self._half = self.mark[:12], self.mark[12:]
        self._told = 0
        self._seen = b""

    @property
    def script(self) -> str:
        """All parts in turn, each in a shell of its own. The first needed one that fails ends it."""
        lines = []
        for part in self.parts:
            end = f"printf '%s%s %s;' {self._half[0]} {self._half[1]} $s"
            lines.append(f"(\n{part.script}\n) </dev/null; s=$?; {end}")
            if part.needed:
                lines.append('[ "$s" = 0 ] || exit "$s"')
        return "\n".join([*lines, ":"])

    def feed(self, block: bytes) -> None:
        """Look for ends in the output as it comes."""
        self._seen += block
        while self.ended and self._told < len(self.parts) and (found := re.search(self._end, self._seen)):
            said, self._seen = self._seen[: found.start()], self._seen[found.end() :]
            if int(found[1]) == 0 or not self.parts[self._told].needed:
                self.ended(self._told, said)
            self._told += 1

    @property
    def _end(self) -> bytes:
        return self.mark.encode() + rb" (\d{1,3});"

    def read(self, result: Result) -> list[Result]:
        """What each part left; stderr is that of all. Raises CommandFailed, or what explains it, for the
        needed one that failed.
        """
        pieces = re.split(self._end, result.out)
        ends = zip(pieces[::2], pieces[1::2], strict=False)
        results = [Result(int(status), out, result.err) for out, status in ends]
        for part, left in zip(self.parts, results, strict=False):
            if part.needed and left.status != 0:
                raise (part.explain and part.explain(left)) or failed(part.what, left, part.id)
        if result.status != 0 or len(results) != len(self.parts):
            part = self.parts[min(len(results), len(self.parts) - 1)]
            raise failed(part.what, Result(result.status, pieces[-1], result.err), part.id)
        return results


def failed(what: str, result: Result, id: str = "") -> CommandFailed:
    """The error for a script that failed. id: see Script."""
    said = result.last_lines()
    return CommandFailed(
        f"{what} failed.",
        f"exit status {result.status}: {said or '(no output)'}",
        script=id,
        status=result.status,
        reason=classify(said),
        output=said,
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
        most: int | None = ANSWER,
        timeout: float | None = None,
        check: bool = True,
        repeat: bool = True,
        secret: bool = False,
    ) -> Result:
        """Run `script`; it must be safe to run twice unless `repeat` is False. It runs in / with umask 022,
        in English, and with nothing of the account's environment that could change what it does.

        what:    names the command in errors: "Copying the cache to the release".
        stdin:   called afresh for each attempt, gives the blocks to send.
        sink:    receives stdout as it comes.
        most:    bytes of stdout that are kept, and more is an error; None: any length, and its end is kept.
        timeout: seconds without an end (counted anew while data moves); the default is ssh.command_timeout.
        secret:  nothing of it may stand in an argument list. (Not together with stdin.)

        Raises CommandFailed (status not 0, with `check`; an answer that is none), CommandTimedOut,
        ConnectionLost, LinkLost.
        """
        limit = self.timeout if timeout is None else timeout
        as_data = stdin is None and (secret or not self.fits(script))

        sent, data = (FROM_STDIN, lambda: blocks(whole(script))) if as_data else (script, stdin)

        def once() -> Result:
            for wait in (0.1, 0.4):  # a server that can't start a process just now says the same
                try:
                    return _Execution(self.connection, sent, sink, limit, what, most).finish(data)
                except _Refused:
                    self.connection.pause(wait)
            return _Execution(self.connection, sent, sink, limit, what, most).finish(data)

        result = self.connection.persist(once, repeat=repeat)
        if check and result.status != 0:
            raise failed(what, result)
        return result

    def fits(self, script: str) -> bool:
        """Whether a script can travel in the request. On standard input it costs a round trip more: OpenSSH
        opens a session's window only when its command has started.
        """
        transport = self.connection.transport
        limit = LONG if transport and "OpenSSH" in transport.remote_version else SHORT
        return len(script) < limit and len(Request.of(script, takes_data=True).text) < limit

    def batch(
        self, parts: Sequence[Script], *, guard: str = "", ended: Ended | None = None, most: int = ANSWER
    ) -> list[Result]:
        """Run `parts` in one round trip, however long they are; what each of them left. They must be safe to
        run twice. guard: a script run before all; when it fails nothing else runs. most: as in run().

        Raises CommandFailed for the first needed part that failed, and what run() raises.
        """
        batch = Batch(parts, ended)
        sink = batch.feed if ended else None
        what = parts[0].what
        return batch.read(self.run(guard + batch.script, what=what, sink=sink, most=most, check=False))


def _end_input(channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError):
        channel.shutdown_write()


def blocks(data: bytes) -> Iterator[bytes]:
    """Data as it is sent."""
    return (data[i : i + 65536] for i in range(0, len(data), 65536))


class _Execution:
    """One script on one channel."""

    out: Drain
    err: Drain

    def __init__(
        self,
        connection: Connection,
        script: str,
        sink: Callable[[bytes], None] | None,
        limit: float,
        what: str,
        most: int | None,
    ) -> None:
        self.connection = connection
        self.script = script
        self.limit = limit
        self.what = what
        self.sink = sink
        self.most = most
        self.takes_input = False
        self.touched = self.begun = time.monotonic()

    def finish(self, stdin: Callable[[], Iterable[bytes]] | None) -> Result:
        """Run it to its end."""
        self.takes_input = stdin is not None
        asked = Request.of(self.script, takes_data=self.takes_input)
        try:
            channel = self.connection.create_session()
            drains: tuple[Drain, ...] = ()
            try:
                channel.settimeout(POLL)
                request(channel, "exec", asked.text)
                self.out = Drain(
                    channel.recv, what=self.what, marker=asked.mark, sink=self._moved, most=self.most
                )
                self.err = Drain(
                    channel.recv_stderr, what=self.what, marker=asked.err_mark, most=None, total=ANSWER
                )
                drains = (self.out, self.err)
                return self._talk(channel, asked, stdin)
            finally:
                channel.close()
                # What comes late must not reach a sink that has gone on to the next attempt.
                for drain in drains:
                    drain.ended.wait(REST)
        except LINK_ERRORS as error:
            if isinstance(error, paramiko.ChannelException):
                why = f"the server opens no further session (reason {error.code})"
            else:
                why = str(error) or type(error).__name__
            if not self.connection.alive:
                why = self.connection.why_dead()
            raise LinkLost("The connection died.", why) from error

    def _talk(
        self, channel: paramiko.Channel, asked: Request, stdin: Callable[[], Iterable[bytes]] | None
    ) -> Result:
        self.touched = self.begun = time.monotonic()
        if stdin:
            self._await_start(channel)
            if self.out.marked:
                self._feed(channel, chain([asked.sync], stdin()))
        elif self.connection.input_is_read is None:
            self._see_who_reads(channel)
        if stdin or self.connection.input_is_read is not None:
            _end_input(channel)
        for event in (self.out.ended, self.err.ended, channel.status_event):
            while not event.wait(POLL) and (event is not channel.status_event or self.connection.alive):
                _end_input(channel)
                self._watch(channel)
        self._raise_error()
        return self._result(channel)

    def _see_who_reads(self, channel: paramiko.Channel) -> None:
        """Whether start-up files read their input to its end: then no command that takes data can start."""
        held = self.out.started.wait(HELD)
        for _ in range(LINES):
            if held:
                self.connection.input_is_read = False
                return
            with contextlib.suppress(OSError):
                channel.send(b"\n")
            held = self.out.started.wait(AT_ONCE)
        _end_input(channel)
        if self.out.started.wait(AT_ONCE) and self.out.marked:
            self.connection.input_is_read = True

    def _moved(self, block: bytes) -> None:
        self.touched = time.monotonic()
        if self.sink:
            self.sink(block)

    def _await_start(self, channel: paramiko.Channel) -> None:
        """Wait until the script has begun: until then a start-up file may read what is sent. One that waits
        for a line gets empty ones, which the script passes over.
        """
        while not self.out.started.wait(NUDGE):
            self._watch(channel)
            with contextlib.suppress(OSError):
                channel.send(b"\n")

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
                    self._watch(channel)
                except OSError:
                    return

    def _watch(self, channel: paramiko.Channel) -> None:
        """Raise what must end the waiting."""
        self.connection.stop_if_interrupted()
        self._raise_error()
        now = time.monotonic()
        if not self.out.started.is_set() and now - self.begun > min(self._starts_within, self.limit):
            raise not_started(
                self.what, now - self.begun, self._noise, eaten=self._starts_within < STARTS_WITHIN
            )
        if now - self.touched > self.limit:
            raise CommandTimedOut(
                f"{self.what} did not end.",
                f"no end after {self.limit:g} s",
                "Raise ssh.command_timeout if it needs longer, else see on the host what it waits for.",
            )

    @property
    def _noise(self) -> bytes:
        return bytes(self.err.noise) or bytes(self.out.noise)

    @property
    def _starts_within(self) -> float:
        eaten = self.takes_input and self.connection.input_is_read
        return STARTS_WITH_INPUT_WITHIN if eaten else STARTS_WITHIN

    def _raise_error(self) -> None:
        for drain in (self.out, self.err):
            if drain.error:
                raise drain.error

    def _result(self, channel: paramiko.Channel) -> Result:
        status = channel.exit_status
        if self.out.marked and status != -1:
            return Result(status, self.out.data, self.err.data)
        if status == -1:  # paramiko's word for "no exit status came"
            if refused(channel) and self.connection.alive:
                raise _Refused(
                    "The server runs no commands for this account.",
                    "it refused the request to run one",
                    NEEDS_A_SHELL,
                )
            raise LinkLost("The session ended without an exit status.", self._no_status())
        raise not_ours(status, bytes(self.err.noise) + self.err.data, bytes(self.out.noise))

    def _no_status(self) -> str:
        if not self.connection.alive:
            return self.connection.why_dead()
        return "the server closed the session's channel, or the shell was killed by a signal"


class _Refused(CommandFailed):
    """The server refused to run a command at all."""
