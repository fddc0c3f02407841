"""A bad network: a TCP proxy on loopback that can delay, freeze, cut and refuse on demand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

HOST = "127.0.0.1"
TIMEOUT = 10.0
QUEUE_LIMIT = 64 * 1024 * 1024  # bytes on the way in one direction; what a delayed link can hold

T = TypeVar("T")


class Proxy:
    """Passes bytes between `port` and a target port until told otherwise.

        with Proxy(sshd.port, delay=0.02) as proxy:
            ...connect to proxy.port...
            proxy.cut()

    It runs in a thread of its own; its methods have done what they say when they return.

    delay:       seconds that bytes take one way; may be changed while it runs, does not limit throughput.
    connections: connections taken so far, without the refused ones.
    cuts:        connections that were reset by cut() or cut_after().
    uploaded, downloaded: bytes passed on from client to server, and back.
    round_trips: the longest chain of question and answer on one connection: the client has spoken once more
                 after it heard what the server said after it heard the client. What overlaps counts once,
                 how fast the machine is does not matter, and what the server says to a client that has hung
                 up is heard by nobody.
    """

    def __init__(self, target_port: int, *, target_host: str = HOST, delay: float = 0.0) -> None:
        self.host = HOST
        self.port = 0
        self.delay = delay
        self.connections = 0
        self.refused = 0
        self.cuts = 0
        self.uploaded = 0
        self.downloaded = 0
        self.round_trips = 0
        self._target = (target_host, target_port)
        self._links: set[_Link] = set()
        self._refusing = False
        self.frozen = False
        self._budget: int | None = None  # client bytes until the next cut
        self._budget_again: int | None = None
        self._freezing_at: int | None = None  # of `uploaded`
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def cut(self) -> int:
        """Reset (RST) every open connection, both ways; returns how many."""
        return self._on_loop(self._cut_all)

    def cut_after(self, count: int, *, repeat: bool = False) -> None:
        """Reset the connection that carries the `count`-th client byte from now on, just after that byte.

        All connections count together. Once, or with `repeat` again after every further `count` bytes.
        """

        def arm() -> None:
            self._budget, self._budget_again = count, count if repeat else None

        self._on_loop(arm)

    def disarm(self) -> None:
        """Forget cut_after()."""

        def off() -> None:
            self._budget = self._budget_again = None

        self._on_loop(off)

    def freeze(self) -> None:
        """Pass nothing on any more, and close nothing: a peer that fell silent. New connections too."""

        def hold() -> None:
            self.frozen = True
            for link in self._links:
                link.regulate()

        self._on_loop(hold)

    def freeze_after(self, count: int) -> None:
        """Freeze as soon as `count` client bytes have passed from now on, or a few more."""

        def arm() -> None:
            self._freezing_at = self.uploaded + count

        self._on_loop(arm)

    def thaw(self) -> None:
        """Go on where freeze() stopped; nothing is lost."""

        def release() -> None:
            self.frozen = False
            for link in list(self._links):
                link.regulate()

        self._on_loop(release)

    def refuse(self, refusing: bool = True) -> None:
        """Reset new connections at once, or take them again; open ones stay."""

        def choose() -> None:
            self._refusing = refusing

        self._on_loop(choose)

    def __enter__(self) -> Self:
        listening: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="lab-proxy", daemon=True)
        self._thread.start()
        self.port = listening.result(TIMEOUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(TIMEOUT)
        if self._thread.is_alive() and value is None:
            raise RuntimeError("the proxy's thread did not end")

    # -- in the proxy's own thread ---------------------------------------------------------------------

    def _run(self, listening: concurrent.futures.Future[int]) -> None:
        try:
            asyncio.run(self._serve(listening))
        except BaseException as problem:  # noqa: BLE001  (the thread's only way to tell)
            if not listening.done():
                listening.set_exception(problem)

    async def _serve(self, listening: concurrent.futures.Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(lambda: _ClientEnd(self), HOST, 0, backlog=128)
        listening.set_result(server.sockets[0].getsockname()[1])
        try:
            await self._stopping.wait()
        finally:
            server.close()
            for link in list(self._links):
                link.reset()
            await asyncio.sleep(0)  # the transports close in the next round

    def _on_loop(self, work: Callable[[], T]) -> T:
        assert self._loop is not None, "the proxy is not running"
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as problem:  # noqa: BLE001  (handed to the caller's thread)
                done.set_exception(problem)

        self._loop.call_soon_threadsafe(run)
        return done.result(TIMEOUT)

    def _cut_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        self.cuts += len(links)
        return len(links)

    def accept(self, client: _ClientEnd) -> _Link | None:
        """A new client: its link, or None and a reset."""
        if self._refusing:
            self.refused += 1
            client.reset()
            return None
        self.connections += 1
        link = _Link(self, client)
        self._links.add(link)
        return link

    def forget(self, link: _Link) -> None:
        """A link has ended."""
        self._links.discard(link)

    def passed(self, size: int) -> None:
        """Client bytes have reached their target."""
        self.uploaded += size
        if self._freezing_at is not None and self.uploaded >= self._freezing_at:
            self.frozen, self._freezing_at = True, None

    def spend(self, size: int) -> tuple[int, bool]:
        """How many of `size` client bytes may pass, and whether the connection is cut after them."""
        if self._budget is None:
            return size, False
        if size < self._budget:
            self._budget -= size
            return size, False
        allowed, self._budget = self._budget, self._budget_again
        self.cuts += 1
        return allowed, True


class _End(asyncio.Protocol):
    """One socket of a link; what arrives goes to the flow out of it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.full = False  # the peer takes less than it is sent
        self.arriving: _Flow | None = None
        self.leaving: _Flow | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.arriving is not None:
            self.arriving.put(data)

    def eof_received(self) -> bool:
        if self.arriving is not None:
            self.arriving.put(b"")
        return True  # the other way stays open

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.leaving is not None:
            self.leaving.pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.arriving is not None:
            self.arriving.link.lost(self)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self.transport.abort()


class _ClientEnd(_End):
    """The socket that a client opened."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        link = self._proxy.accept(self)
        if link is not None:
            link.dial()


class _Link:
    """One connection through the proxy: two ends, two flows."""

    def __init__(self, proxy: Proxy, client: _ClientEnd) -> None:
        self.proxy = proxy
        self.client = client
        self.server = _End()
        self.up = _Flow(self, client, self.server)
        self.down = _Flow(self, self.server, client)
        self.asked = 0  # the depth of the chain, as the server has heard it
        self.answered = 0  # and as the client has
        self._dialling: asyncio.Task[None] | None = None
        self._over = False
        self._half_lost = False

    def dial(self) -> None:
        """Connect to the target; until then nothing is read from the client."""
        self.regulate()
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *self.proxy._target)
        except OSError:
            self.reset()
        if self._over:
            self.server.reset()
        self.regulate()

    def regulate(self) -> None:
        """Pass on and read as the proxy's state allows."""
        self.up.pass_on()
        self.down.pass_on()

    def lost(self, end: _End) -> None:
        """One end has gone: after an end from both sides the other one still flushes, else it is reset."""
        if not (self.up.ended and self.down.ended):
            self.reset()
        elif self._half_lost:
            self.proxy.forget(self)
        self._half_lost = True

    def reset(self) -> None:
        """Close both ends with RST."""
        if not self._over:
            self._over = True
            self.proxy.forget(self)
            self.client.reset()
            self.server.reset()


class _Flow:
    """One direction of a link: a queue of (when it is due, bytes, depth of the chain), b"" for the end."""

    def __init__(self, link: _Link, source: _End, target: _End) -> None:
        self.link = link
        self._source = source
        self._target = target
        self._upward = source is link.client
        self._queue: deque[tuple[float, bytes, int]] = deque()
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self.source_ended = False
        self.ended = False  # the source's end has reached the target
        source.arriving = self
        target.leaving = self

    def put(self, data: bytes) -> None:
        """Bytes from the source, or b"" for its end."""
        if self.source_ended:
            return
        self.source_ended = not data
        depth = self.link.answered + 1 if self._upward else self.link.asked
        self._queue.append((asyncio.get_running_loop().time() + self.link.proxy.delay, data, depth))
        self._queued += len(data)
        self.pass_on()

    def pass_on(self) -> None:
        """Send what is due, then read on or not."""
        proxy, target = self.link.proxy, self._target.transport
        while self._queue and target is not None and not proxy.frozen and not self._target.full:
            due, data, depth = self._queue[0]
            if self._wait_until(due):
                break
            self._queue.popleft()
            self._queued -= len(data)
            if not data:
                self._end()
                break
            self._deepen(depth)
            if self._send(target, data):
                return
        self._regulate_reading()

    def _deepen(self, depth: int) -> None:
        if self._upward:
            self.link.asked = max(self.link.asked, depth)
        else:
            if self.link.up.source_ended:
                return
            self.link.answered = max(self.link.answered, depth)
            self.link.proxy.round_trips = max(self.link.proxy.round_trips, self.link.answered)

    def _send(self, target: asyncio.Transport, data: bytes) -> bool:
        """Send to the target; True when that cut the link."""
        proxy = self.link.proxy
        if not self._upward:
            proxy.downloaded += len(data)
            target.write(data)
            return False
        allowed, cut = proxy.spend(len(data))
        proxy.passed(allowed)
        target.write(data[:allowed])
        if cut:
            self.link.reset()
        return cut

    def _wait_until(self, due: float) -> bool:
        loop = asyncio.get_running_loop()
        if due <= loop.time():
            return False
        if self._timer is None:
            self._timer = loop.call_at(due, self._is_due)
        return True

    def _is_due(self) -> None:
        self._timer = None
        self.pass_on()

    def _end(self) -> None:
        self.ended = True
        target = self._target.transport
        other = self.link.down if self._upward else self.link.up
        if other.ended:
            # Both have said all: the last FIN follows what is still to be written.
            for end in (self.link.client, self.link.server):
                if end.transport is not None:
                    end.transport.close()
        elif target is not None and target.can_write_eof():
            target.write_eof()

    def _regulate_reading(self) -> None:
        source = self._source.transport
        if source is None or source.is_closing() or self.source_ended:
            return
        if (
            self.link.proxy.frozen
            or self._target.transport is None
            or self._target.full
            or self._queued > QUEUE_LIMIT
        ):
            source.pause_reading()
        else:
            source.resume_reading()
