"""Our Transport on a socket of its own: without an SSH server."""

from __future__ import annotations

import contextlib
import fcntl
import math
import socket
import struct

from fabfile.remote.transport import UNSENT, Transport

SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes that wait to be sent, without those under way


def test_little_waits_in_the_kernel_to_be_sent() -> None:
    """On a slow link a sign of life, a lease and new keys would come behind all that waits: for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
        with sock, peer:
            Transport(sock)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(1 << 15))
            (waiting,) = struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQNSD, bytes(4)))
    assert waiting <= UNSENT + (1 << 16)


def test_new_keys_are_waited_for_as_long_as_the_peer_lives() -> None:
    """Ours come behind what is under way; paramiko gives up after 30 s. The watchdog knows better."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Transport(ours).clear_to_send_timeout == math.inf
