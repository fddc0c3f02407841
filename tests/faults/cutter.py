"""A TCP proxy that counts packets and, at the k-th, resets or closes its connection, or falls silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
PACKET = 16384  # bytes read at a time; what one read gives counts as one packet


@dataclass(frozen=True)
class Strike:
    """how: reset, close or silence, at packet number `at` of those that go this `way` (in: from the server;
    out: to it; "": both), counted over all connections, or with `times` on each of so many that begin from
    now on. half: the first half of that packet still arrives.
    """

    how: str
    at: int
    way: str = ""
    times: int = 0
    half: bool = False


@dataclass(eq=False)
class _Link:
    client: socket.socket
    server: socket.socket
    doomed: bool = False  # this connection's own packets are counted
    packets: int = 0
    silent: bool = False
    waiting: dict[socket.socket, bytes] = field(default_factory=dict)

    def other(self, end: socket.socket) -> socket.socket:
        return self.server if end is self.client else self.client


class Cutter:
    """One thread, one selector. `arm` says what is to happen."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.packets = 0
        self.struck = 0
        self._strike: Strike | None = None
        self._dropping = False
        self._doomed = 0
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._links: dict[socket.socket, _Link] = {}
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="cutter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._wake_write.send(b"x")
        self._thread.join(5)
        for one in (self._listener, self._wake_read, self._wake_write):
            one.close()

    def arm(self, strike: Strike | None, *, drop: bool = False) -> None:
        """From now on count anew, and do this. drop: reset the connections that there are, too."""
        self.packets, self.struck, self._doomed, self._strike = 0, 0, 0, strike
        if drop:
            self._dropping = True
            self._wake_write.send(b"x")

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        while not self._ending:
            for key, events in self._selector.select(1.0):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                if end is self._listener:
                    self._accept()
                elif end is self._wake_read:
                    end.recv(64)
                    for link in set(self._links.values()) if self._dropping else ():
                        self._drop(link, reset=True)
                    self._dropping = False
                elif end in self._links:
                    self._serve(self._links[end], end, events)
        for link in set(self._links.values()):
            self._drop(link)
        self._selector.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection((HOST, self.target_port), timeout=5)
        except OSError:
            client.close()
            return
        strike = self._strike
        link = _Link(client, server, doomed=bool(strike and self._doomed < strike.times))
        self._doomed += link.doomed
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links[end] = link
            self._selector.register(end, selectors.EVENT_READ)

    def _serve(self, link: _Link, end: socket.socket, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._push(link, end)
            if events & selectors.EVENT_READ and end in self._links:
                self._pull(link, end)
        except BlockingIOError:
            return
        except OSError:
            self._drop(link)

    def _pull(self, link: _Link, end: socket.socket) -> None:
        other = link.other(end)
        if len(link.waiting.get(other, b"")) > 1 << 20:
            return
        data = end.recv(PACKET)
        if not data:
            self._drop(link)
            return
        if link.silent:
            return
        self.packets += 1
        link.packets += self._counts(end is link.server)
        strike = self._due(link)
        if strike:
            self.struck += 1
            data = data[: len(data) // 2] if strike.half else b""
        link.waiting[other] = link.waiting.get(other, b"") + data
        self._push(link, other)
        if strike and strike.how == "silence":
            link.silent = True
        elif strike:
            self._drop(link, reset=strike.how == "reset")

    def _counts(self, inward: bool) -> bool:
        return self._strike is not None and self._strike.way in ("", "in" if inward else "out")

    def _due(self, link: _Link) -> Strike | None:
        """The strike, if this packet is the one."""
        strike = self._strike
        if strike is None or not strike.times:
            return strike if strike and not self.struck and self.packets >= strike.at else None
        return strike if link.doomed and link.packets == strike.at else None

    def _push(self, link: _Link, end: socket.socket) -> None:
        data = link.waiting.get(end, b"")
        with contextlib.suppress(BlockingIOError):
            while data:
                data = data[end.send(data) :]
        link.waiting[end] = data
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if data else 0)
        self._selector.modify(end, wanted)

    def _drop(self, link: _Link, reset: bool = False) -> None:
        for end in (link.client, link.server):
            if self._links.pop(end, None) is None:
                continue
            self._selector.unregister(end)
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
