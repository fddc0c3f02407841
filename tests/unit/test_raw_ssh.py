"""What a stranger says in place of a greeting, read within a time and never believed."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from fabfile.remote import raw_ssh

BANNER = b"SSH-2.0-stranger\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.timeout(20)
@pytest.mark.parametrize("said", [b"x", BANNER + struct.pack(">I", 30000) + b"x"], ids=["greeting", "keys"])
def test_bytes_that_come_one_by_one_have_one_time_in_all(
    pair: tuple[socket.socket, socket.socket], said: bytes
) -> None:
    ours, theirs = pair
    over = threading.Event()

    def drip() -> None:
        theirs.sendall(said)
        while not over.wait(0.05):
            theirs.send(b"x")

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    seen = raw_ssh.greeting(ours, 0.5, offers=True)
    over.set()
    dripping.join()
    assert not seen.closed and seen.offers == {}


def kexinit(lists: bytes) -> bytes:
    body = bytes([4, 20]) + os.urandom(16) + lists
    return struct.pack(">I", len(body)) + body


NAMES = b"".join(struct.pack(">I", len(name)) + name for name in [b"a,b", b"ssh-ed25519", *[b"c"] * 4])


def test_the_algorithms_of_a_server(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(BANNER + kexinit(NAMES))
    seen = raw_ssh.greeting(ours, 5, offers=True)
    assert seen.greeted and seen.offers["kex"] == ["a", "b"] and seen.offers["host key"] == ["ssh-ed25519"]


@pytest.mark.parametrize(
    "said",
    [b"\0\0\0\0x", b"\0\0\0\1x", b"\0\0\0\0", b"\xff" * 40, kexinit(b""), kexinit(b"\0\0\0\4\xff\xfe\0\xc3")],
    ids=["empty", "one byte", "size only", "endless", "no lists", "no text"],
)
def test_what_is_no_key_exchange_is_no_traceback(
    pair: tuple[socket.socket, socket.socket], said: bytes
) -> None:
    ours, theirs = pair
    theirs.sendall(BANNER + said)
    theirs.shutdown(socket.SHUT_WR)
    assert raw_ssh.greeting(ours, 5, offers=True).greeted
