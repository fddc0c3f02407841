"""A way to a server that carries only so much: so many bytes a connection, so many bytes a second."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

HOST = "127.0.0.1"
BLOCK = 4096
LATE = 0.05  # seconds; how finely a rate is kept


@contextlib.contextmanager
def relay(
    target: int, *, dies_after: int | None = None, silent: bool = False, rate: float | None = None
) -> Iterator[int]:
    """A port that passes connections on to `target`.

    dies_after: bytes, both ways together, after which each connection is reset, or with `silent` carries
    nothing any more. rate: bytes a second, each way.
    """
    listener = socket.create_server((HOST, 0))
    ends: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((HOST, target), 10)
                ends.extend((client, server))
                left = [dies_after if dies_after is not None else 1 << 62]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(
                        target=_pass, args=(source, sink, left, silent, rate), daemon=True
                    ).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for end in ends:
            end.close()
        thread.join(5)


def _pass(
    source: socket.socket, sink: socket.socket, left: list[int], silent: bool, rate: float | None
) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(BLOCK if rate is None else max(256, int(rate * LATE))):
            if rate is not None:
                time.sleep(len(block) / rate)
            left[0] -= len(block)
            if left[0] < 0 and silent:
                threading.Event().wait(120)  # the one who reads is gone long before
            if left[0] < 0:
                for end in (source, sink):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
                return
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
