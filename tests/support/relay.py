"""A way to a server that carries only so much: bytes or seconds a connection, bytes a second."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.support.sockets import HOST, listening

BLOCK = 4096
LATE = 0.05  # seconds; how finely a rate is kept
LINGERS = 120.0  # seconds that a connection which fell silent stays open at most


@dataclass(frozen=True)
class Cut:
    """How each connection ends. after: the bytes it has carried, of `way`; seconds: its age by then."""

    after: int | None = None
    seconds: float | None = None
    way: Literal["up", "down", "both"] = "both"
    how: Literal["reset", "fin", "silence"] = "reset"


@contextlib.contextmanager
def relay(target: int, cut: Cut | None = None, *, rate: float | None = None) -> Iterator[int]:
    """A port that passes connections on to `target`. rate: bytes a second, each way."""
    ends: list[socket.socket] = []

    def serve(client: socket.socket) -> None:
        server = socket.create_connection((HOST, target), 10)
        server.settimeout(None)
        ends.append(server)
        _Link(client, server, cut or Cut(), rate).start()

    with listening(serve) as port:
        try:
            yield port
        finally:
            for end in ends:
                end.close()


class _Link:
    """One connection through the relay."""

    def __init__(self, client: socket.socket, server: socket.socket, cut: Cut, rate: float | None) -> None:
        self.ends = {"up": client, "down": server}
        self.cut = cut
        self.rate = rate
        self.left = cut.after if cut.after is not None else 1 << 62
        self.mute = threading.Event()

    def start(self) -> None:
        for way in self.ends:
            threading.Thread(target=self._pass, args=(way,), daemon=True).start()
        if self.cut.seconds is not None:
            timer = threading.Timer(self.cut.seconds, self._end)
            timer.daemon = True
            timer.start()

    def _pass(self, way: str) -> None:
        source = self.ends[way]
        sink = self.ends["down" if way == "up" else "up"]
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK if self.rate is None else max(256, int(self.rate * LATE))):
                if self.rate is not None:
                    time.sleep(len(block) / self.rate)
                counted = self.cut.way in ("both", way)
                allowed = block[: max(self.left, 0)] if counted else block
                if counted:
                    self.left -= len(block)
                if self.mute.is_set():
                    time.sleep(LINGERS)
                sink.sendall(allowed)
                if self.left < 0:
                    self._end()
                    return
        with contextlib.suppress(OSError):
            if not self.mute.is_set():
                sink.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        """Cut it, as it was told to be."""
        self.mute.set()
        if self.cut.how == "silence":
            time.sleep(LINGERS)
        for end in self.ends.values():
            with contextlib.suppress(OSError):
                if self.cut.how == "fin":
                    end.shutdown(socket.SHUT_RDWR)
                    continue
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads, which would keep it open
                end.close()
