"""Whatever bytes a server sends as SFTP: an answer, or an error of ours, and never more than a packet."""

from __future__ import annotations

import contextlib
import struct
import threading
from typing import Any

import paramiko
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.errors import FilesError, LinkLost
from fabfile.remote import sftp_session
from fabfile.remote.sftp_files import _Asking, _content, _names, _statvfs
from fabfile.remote.sftp_requests import SftpRequests
from fabfile.remote.sftp_session import PACKET_LIMIT, NotSftp, Refused, SftpSession


class Channel:
    """What a session needs of a channel: what comes was written down beforehand, then it ends."""

    event_ready, closed, exit_status = True, False, 1

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0
        self.event = self.status_event = threading.Event()
        self.event.set()

    def recv(self, size: int) -> bytes:
        self.asked = max(self.asked, size)
        block, self.data = self.data[:size], self.data[size:]
        return block

    def send(self, data: bytes) -> int:
        return len(data)

    def recv_stderr_ready(self) -> bool:
        return False

    def settimeout(self, seconds: float) -> None: ...

    def close(self) -> None: ...

    def get_transport(self) -> Any:
        return self

    def is_active(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_subsystem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp_session, "request", lambda *_: None)


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


VERSION = packet(2, struct.pack(">I", 3))
NUMBERS = st.sampled_from([0, 1, 2, 3, 0xFFFFFFFF])
STRINGS = st.binary(max_size=20).map(lambda data: struct.pack(">I", len(data)) + data)
FIELDS = st.lists(NUMBERS.map(lambda n: struct.pack(">I", n)) | STRINGS | st.binary(max_size=9), max_size=8)
PACKETS = st.builds(
    lambda kind, number, fields: packet(kind, struct.pack(">I", number) + b"".join(fields)),
    st.sampled_from([101, 102, 103, 104, 105, 201, 2, 0, 255]),
    NUMBERS,
    FIELDS,
)
STREAMS = st.lists(PACKETS | st.binary(max_size=30), max_size=12).map(b"".join)
QUESTIONS = {
    "names": _names,
    "content": _content,
    "space": _statvfs,
    "attributes": lambda ask, path: ask(7, path).attributes(),
    "path": lambda ask, path: ask(19, path).path(),
    "done": lambda ask, path: ask(18, path).done(),
}


@pytest.mark.promise("sftp")
@given(st.binary(max_size=60) | STREAMS)
@settings(max_examples=200, deadline=None)
def test_any_greeting(said: bytes) -> None:
    channel = Channel(said)
    with contextlib.suppress(NotSftp):
        SftpSession(channel, 1.0)  # type: ignore[arg-type]
    assert channel.asked <= PACKET_LIMIT + 4


@pytest.mark.promise("sftp")
@given(st.sampled_from(list(QUESTIONS)), STREAMS)
@settings(max_examples=600, deadline=None)
def test_any_answer(question: str, said: bytes) -> None:
    channel = Channel(VERSION + said)
    session = SftpSession(channel, 1.0)  # type: ignore[arg-type]
    try:
        found = QUESTIONS[question](_Asking(session, 1.0), "/path")
    except (NotSftp, Refused):
        return
    if question == "names":
        assert not [name for name in found if "/" in name or "\0" in name or name in ("", ".", "..")]
    if question == "path":
        assert found and "\0" not in found


@pytest.mark.promise("sftp")
@given(STREAMS)
@settings(max_examples=200, deadline=None)
def test_nobody_waits_for_an_answer_that_does_not_come(said: bytes) -> None:
    requests = SftpRequests(Channel(VERSION + said))  # type: ignore[arg-type]
    for _ in range(5):
        waiting = requests.write(b"handle", 0, b"data")
        with contextlib.suppress(FilesError, LinkLost):
            waiting.result(timeout=5)


@pytest.mark.promise("sftp")
@pytest.mark.parametrize("size", [0, PACKET_LIMIT + 1, 0xFFFFFFFF])
def test_a_packet_of_that_size_is_none(size: int) -> None:
    with pytest.raises(NotSftp, match="not an SFTP packet"):
        SftpSession(Channel(struct.pack(">I", size) + b"x" * 100), 1.0)  # type: ignore[arg-type]


def test_an_answer_in_pieces_survives_a_wait_that_was_cut_short() -> None:
    """What has come of a packet is kept for whoever asks again."""

    class Slow(Channel):
        late = False

        def recv(self, size: int) -> bytes:
            self.late = not self.late
            if self.late:
                raise TimeoutError
            return super().recv(1)

    channel = Slow(packet(102, struct.pack(">I", 1) + struct.pack(">I", 1) + b"h"))
    session = SftpSession.__new__(SftpSession)
    session.channel, session.timeout = channel, 1.0  # type: ignore[assignment]
    session._next, session._due, session._early, session._buffer = 0, set(), {}, bytearray()
    number = session.send(3, "path")
    for _ in range(100):
        try:
            assert session.receive(number).handle() == b"h"
            return
        except TimeoutError:
            continue
    pytest.fail("the answer was lost")


def test_times_that_sftp_can_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1970 and after 2106: the nearest that it can."""
    requests = SftpRequests(Channel(VERSION))  # type: ignore[arg-type]
    for seconds in (-1, 2**32, 2**40):
        with pytest.raises((FilesError, LinkLost)):
            requests.set_mode_and_time(b"handle", 0o644, seconds).result(timeout=5)


def test_a_refused_subsystem() -> None:
    channel = Channel(b"")
    channel.event_ready = False
    with pytest.raises(paramiko.SSHException, match="refuses the subsystem"):
        SftpSession(channel, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "said, why",
    [
        (packet(101, struct.pack(">II", 7, 0)), "which was not sent"),
        (packet(102, struct.pack(">II", 1, 9) + b"short"), "shorter than it says"),
        (packet(105, struct.pack(">II", 1, 5) + b"short"), "an answer of type 105 where 102 is due"),
        (packet(101, struct.pack(">I", 1)), "shorter than it says"),
    ],
)
def test_why_it_is_no_answer(said: bytes, why: str) -> None:
    session = SftpSession(Channel(VERSION + said), 1.0)  # type: ignore[arg-type]
    with pytest.raises(NotSftp, match=why):
        session.ask(11, "/path").handle()


@pytest.mark.parametrize(("mtime", "sent"), [(-1, 0), (5, 5), (2**32 - 1, 2**32 - 1), (2**32, 2**32 - 1)])
def test_a_time_past_2106_is_the_last_one_that_sftp_can_say(mtime: int, sent: int) -> None:
    asked: list[object] = []
    made = SftpRequests.__new__(SftpRequests)
    made._ask = lambda kind, *fields: asked.extend(fields)  # type: ignore[assignment,return-value,method-assign]
    made.set_mode_and_time(b"handle", 0o644, mtime)
    assert asked[-2:] == [sent, sent]
