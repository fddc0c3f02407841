"""One host under examination: how to reach it, and what has been found so far."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import paramiko

from ..errors import SwitchoverError
from ..on_host.layout import Layout
from ..on_host.state import State
from ..remote.connection import LINK_ERRORS, Connection
from ..remote.host import Host
from ..remote.raw_ssh import Said, execute
from ..remote.request import Request
from ..remote.sftp_session import SftpSession
from ..remote.shell import quote
from ..settings import Settings
from ..settings.model import Keepalive
from .case import Case
from .finding import IdleLife

T = TypeVar("T")

WHOLE = 50.0  # seconds for all probes of one host; what is known by then is told
TIDY_WITHIN = 4.0  # seconds, beyond that
ANSWER_WITHIN = 8.0  # seconds for one command or one SFTP answer
AGAIN_WITHIN = 3.0  # seconds in which a server has tidied up a session that was just closed
PROBE = ".switchover-probe-"
END = "end-of-script"
Evidence = dict[str, Any]


class OutOfTime(Exception):
    """The time for the whole examination is over."""


class Unanswered(Exception):
    """A script did not print all of its answer: what it has not said is unknown. said: what came."""

    def __init__(self, said: Said, rows: dict[str, list[str]]) -> None:
        how = "it did not end in time" if not said.ended else f"exit status {said.status}"
        super().__init__(
            f"a script on the host did not come to its end: {how}; it said: {said.text[-300:]!r}"
        )
        self.said = said
        self.rows = rows


@dataclass(frozen=True)
class Probe:
    """Something that is tried on the host.

    covers: the ids that it decides. run: gives the reason why it could not look at all of them, if so; else
    what it has left out is ok. needs, grants: abilities of the host that must
    have been shown before ("connection", "shell", "sftp", "place", "deploy_to"), and that it may show.
    """

    stage: str
    covers: tuple[str, ...]
    run: Callable[[Examination], str | None]
    needs: tuple[str, ...] = ("connection",)
    grants: tuple[str, ...] = ()
    deep: bool = False


class Examination(Case):
    """What probes share: the case, and the ways to the host. Nothing here prints.

    place: a directory of ours on the host, made for this examination and removed at its end.
    """

    def __init__(self, host: Host, settings: Settings, fresh: Callable[[float], Connection]) -> None:
        super().__init__(settings)
        self.host = host
        self.layout = Layout(settings.deploy_to) if settings.deploy_to else None
        self.fresh = fresh  # another connection to the same host; its argument: seconds between keepalives
        self.seconds: dict[str, float] = {}
        self.idle: list[IdleLife] = []
        self.place: str | None = None
        self.left_behind = ("", 0.0)  # the pid of what a second login has started, and when that was closed
        self.state: State | None = None
        self.programs: frozenset[str] = frozenset()  # those of configuration.PROGRAMS that are on its PATH
        self.asked_at = 0.0  # when the first command ran, by this machine's clock: time.time()
        self.token = secrets.token_hex(8)
        self.deep = 0.0  # seconds that idle connections are watched
        self.until = time.monotonic() + WHOLE
        self._sftp: SftpSession | None = None

    def left(self, wanted: float) -> float:
        """At most `wanted` seconds, and no more than are left for the whole. Raises OutOfTime."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise OutOfTime
        return min(wanted, left)

    def bound(self, seconds: float) -> float:
        """A bound for an answer, meant for a fast network: with what the network itself takes added."""
        return seconds + 6 * self.round_trip

    @property
    def address(self) -> str:
        """user@host:port, as it was worked out."""
        connection = self.host.connection
        return f"{connection.user}@{connection.host}:{connection.port}"

    # -- the host --------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The one that most probes use."""
        return self.host.connection

    def execute(
        self, command: str, timeout: float = ANSWER_WITHIN, connection: Connection | None = None
    ) -> Said:
        """Run `command` as it is. Where the server allows one session at a time, SFTP makes room for it."""
        over, limit = connection or self.connection, self.left(timeout)
        said = self._with_room(lambda: execute(over.transport, command, limit))
        if not said.ended and over is self.connection and not self.answers():
            raise TimeoutError(f"no answer within {limit:g} s")
        return said

    def session(self) -> paramiko.Channel:
        """A fresh channel."""
        return self._with_room(lambda: self.connection.transport.open_session(timeout=ANSWER_WITHIN))

    def _with_room(self, attempt: Callable[[], T]) -> T:
        until = time.monotonic() + AGAIN_WITHIN
        while True:
            try:
                return attempt()
            except paramiko.ChannelException:
                self.close_sftp()
                if time.monotonic() > until:
                    raise
                self.connection.pause(0.1)

    def make_room(self) -> None:
        """Before the host's own shell is used: where few sessions are allowed, it waits for ours to end."""
        if self.bad("max-sessions"):
            self.close_sftp()

    def answers(self, within: float = AGAIN_WITHIN) -> bool:
        """Whether the other end still answers anything at all, in so many seconds."""
        heard = threading.Event()

        def ask() -> None:
            with contextlib.suppress(*LINK_ERRORS):
                self.connection.transport.global_request("keepalive@openssh.com", None, True)
                heard.set()

        threading.Thread(target=ask, daemon=True).start()
        return heard.wait(within)

    def script(
        self, text: str, timeout: float = ANSWER_WITHIN, connection: Connection | None = None
    ) -> dict[str, list[str]]:
        """Run a script that prints `key TAB value` lines; the values by key.

        Raises Unanswered where it does not come to its end: a row that is missing never means no.
        """
        return self.complete(self.ask(text, timeout, connection))

    def complete(self, said: Said) -> dict[str, list[str]]:
        """The rows of a script that has come to its end. Raises Unanswered where it has not."""
        rows = read_rows(said.out)
        if END not in rows:
            raise Unanswered(said, rows)
        return rows

    def ask(self, text: str, timeout: float = ANSWER_WITHIN, connection: Connection | None = None) -> Said:
        """The same, as it comes: `out` begins behind the mark; without one, `before` has all."""
        request = Request.of(f"(\n{text}\n)\nprintf '{END}\\t%s\\n' $?")
        said = self.execute(request.text.decode("ascii"), timeout, connection)
        before, found, out = said.out.partition(request.mark)
        noise, _, err = said.err.partition(request.err_mark)
        merged = request.err_mark in said.out
        return replace(said, out=out, err=err or noise, before=before, started=bool(found), merged=merged)

    def sftp(self) -> SftpSession:
        """A living SFTP session. Raises what SftpSession raises."""
        if self._sftp is None or self._sftp.channel.closed:
            self._sftp = self._with_room(self._open_sftp)
        return self._sftp

    def _open_sftp(self) -> SftpSession:
        return SftpSession(self.connection.transport.open_session(timeout=ANSWER_WITHIN), ANSWER_WITHIN)

    def close_sftp(self) -> None:
        """Let go of the SFTP session."""
        if self._sftp is not None:
            self._sftp.close()
            self._sftp = None

    def tidy(self) -> None:
        """Remove what probes have left on the host, and let go of the connection."""
        self.until = time.monotonic() + TIDY_WITHIN
        self.close_sftp()
        with contextlib.suppress(SwitchoverError, *LINK_ERRORS):
            if self.place and not self.connection.alive:
                self.connection.connect_timeout = TIDY_WITHIN
                self.connection.open()
            if self.place:
                root = self.layout.deploy_to if self.layout else "/nowhere"
                # What a script that was cut has left lies beside, or one level or two below.
                left = " ".join(
                    f"{quote(root)}{below}/{PROBE}{self.token}*" for below in ("", "/*", "/.switchover/*")
                )
                self.ask(f"rm -rf {quote(self.place)} {left}")
        self.host.close()


def filled(script: str, **values: str) -> str:
    """The script with these words replaced, in one go: a path or a URL may have one of them in it."""
    words = "|".join(map(re.escape, values))
    return re.sub(rf"\b({words})\b", lambda found: values[found[0]], script)


def read_rows(output: bytes) -> dict[str, list[str]]:
    """`key TAB value` lines: the values by key."""
    found: dict[str, list[str]] = {}
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        key, tab, value = line.partition("\t")
        if tab:
            found.setdefault(key, []).append(value)
    return found


def quiet(rules: Any, interval: float) -> Any:
    """The same rules with a keepalive of `interval` seconds that is patient with an answer."""
    return replace(rules, keepalive=Keepalive(interval, 100))


def lines(found: Mapping[str, list[str]], key: str) -> str:
    """The first value of `key`, or ""."""
    return found.get(key, [""])[0]
