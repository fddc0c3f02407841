"""An embedded SSH + SFTP server on loopback: a real shell and real files, nothing to install.

    with Server(home=folder) as server:
        Connection(server.host, user=server.user, port=server.port, connect_kwargs=...)

It runs in a thread with an event loop of its own, lets in whoever holds the key that it makes, and behaves
like OpenSSH wherever a client could tell: a command keeps the group it started in, loses it when its channel
closes under it, and a process that called setsid lives on.
"""

# SFTP paths are bytes, which pathlib does not take.

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import getpass
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from .files import Files

HOST = "127.0.0.1"
START_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0
HANGUP_GRACE = 2.0  # seconds between SIGHUP and SIGKILL for a command whose channel closed
CHUNK = 128 * 1024
ALL = 64 * 1024 * 1024  # more than a channel ever holds: read what there is
CHANNEL_POLL = 0.25  # asyncssh has no event for "the other side closed, our buffer is still full"


class Server:
    """The server as a context manager; its attributes say how to reach it.

    home:      where commands start and relative SFTP paths begin; also $HOME.
    keys:      the folder for the client's key and known_hosts; a private temporary one if not given.
    sftp:      False leaves the SFTP subsystem out.
    sftp_root: what SFTP calls /, as a chroot would; commands are not affected.
    """

    def __init__(
        self,
        home: Path,
        *,
        keys: Path | None = None,
        user: str | None = None,
        sftp: bool = True,
        sftp_root: Path | None = None,
    ) -> None:
        self.host = HOST
        self.port = 0
        self.user = user or getpass.getuser()
        self.home = home.absolute()
        self.sftp_root = sftp_root.absolute() if sftp_root else None
        self._sftp = sftp
        self._own_keys = keys is None
        self.keys = keys or Path(tempfile.mkdtemp(prefix="switchover-keys-"))
        self.identity = self.keys / "id_ed25519"
        self.known_hosts = self.keys / "known_hosts"
        self._client_key = asyncssh.generate_private_key("ssh-ed25519", comment="switchover-demo")
        self._host_key = asyncssh.generate_private_key("ssh-ed25519", comment="switchover-demo")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._commands: set[asyncio.Task[None]] = set()
        self._groups: set[int] = set()

    @property
    def fingerprint(self) -> str:
        """The host key's fingerprint, as `ssh-keygen -l` writes it."""
        return self._host_key.get_fingerprint()

    def __enter__(self) -> Self:
        """Listen, or raise within START_TIMEOUT seconds."""
        asyncssh.set_log_level("ERROR")
        listening: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run, args=(listening,), name="switchover-demo-server", daemon=True
        )
        self._thread.start()
        try:
            self.port = listening.result(START_TIMEOUT)
            self._write_keys()
        except BaseException:
            listening.cancel()
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and say so if that did not work."""
        if not self.stop() and value is None:
            raise RuntimeError(f"The embedded SSH server did not stop within {STOP_TIMEOUT:.0f} seconds.")

    def stop(self) -> bool:
        """Close every connection, end what they started, join the thread; True when all that is done."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is not None and thread.is_alive() and loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(stopping.set)
        if thread is not None:
            thread.join(STOP_TIMEOUT)
        if self._own_keys:
            shutil.rmtree(self.keys, ignore_errors=True)
        return thread is None or not thread.is_alive()

    def _write_keys(self) -> None:
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = os.open(self.identity, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(self._client_key.export_private_key())
        self.identity.with_suffix(".pub").write_bytes(self._client_key.export_public_key())
        host_key = self._host_key.export_public_key().decode().strip()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {host_key}\n", encoding="ascii")

    # -- in the server's own thread --------------------------------------------------------------------

    def _run(self, listening: concurrent.futures.Future[int]) -> None:
        try:
            asyncio.run(self._serve(listening))
        except BaseException as problem:  # noqa: BLE001  (the thread's only way to tell)
            if not listening.done():
                listening.set_exception(problem)

    async def _serve(self, listening: concurrent.futures.Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        acceptor = await asyncssh.create_server(
            lambda: _Login(self._client_key, self.user, self._connections),
            HOST,
            0,
            server_host_keys=[self._host_key],
            process_factory=self._start_command,
            sftp_factory=self._open_sftp if self._sftp else None,
            encoding=None,
            line_editor=False,
            compression_algs=None,
            x11_forwarding=False,
            agent_forwarding=False,
        )
        try:
            if not listening.set_running_or_notify_cancel():
                return  # nobody waits any more
            listening.set_result(acceptor.get_port())
            await self._stopping.wait()
        finally:
            acceptor.close()
            await self._end_everything()

    async def _end_everything(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        closing = [asyncio.create_task(connection.wait_closed()) for connection in connections]
        if closing:
            await asyncio.wait(closing, timeout=2)
        if self._commands:
            # Each one sees its channel gone, and takes its process group with it.
            await asyncio.wait(self._commands, timeout=HANGUP_GRACE + 2)
        for group in self._groups:
            _signal_group(group, signal.SIGKILL)

    def _open_sftp(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return Files(channel, self.home, self.sftp_root)

    def _start_command(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        # Not asyncssh's own task: an exception there ends the whole connection.
        self._keep(self._command(process))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _command(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command or shell from its start to its exit status."""
        if process.subsystem is not None:
            process.exit(1)
            return
        argv = ["/bin/sh"] if process.command is None else ["/bin/sh", "-c", process.command]
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=CHUNK,
                cwd=self.home,
                env=self._environment(process),
                start_new_session=True,
            )
        except (OSError, ValueError) as problem:  # no such home, too many processes, a NUL in the command
            with contextlib.suppress(OSError):
                process.stderr.write(f"switchover demo server: {problem}\n".encode())
                process.exit(255)
            return
        self._groups.add(child.pid)
        try:
            await _converse(process, child)
        finally:
            # Background processes of a command that ended well stay, as with sshd; until the server stops.
            if not _group_lives(child.pid):
                self._groups.discard(child.pid)
            else:
                asyncio.get_running_loop().call_later(1, self._forget, child.pid)

    def _forget(self, group: int) -> None:
        """Look again whether a group is empty: its number may be given to somebody else some day."""
        if _group_lives(group):
            asyncio.get_running_loop().call_later(1, self._forget, group)
        else:
            self._groups.discard(group)

    def _environment(self, process: asyncssh.SSHServerProcess[bytes]) -> dict[str, str]:
        peer_host, peer_port = process.get_extra_info("peername")[:2]
        env = {
            "HOME": str(self.home),
            "USER": self.user,
            "LOGNAME": self.user,
            "SHELL": "/bin/sh",
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "SSH_CLIENT": f"{peer_host} {peer_port} {self.port}",
            "SSH_CONNECTION": f"{peer_host} {peer_port} {self.host} {self.port}",
        }
        accepted = {name: value for name, value in process.env.items() if name.startswith(("LANG", "LC_"))}
        return env | accepted


class _Login(asyncssh.SSHServer):
    """Lets in one user with one key."""

    def __init__(
        self, key: asyncssh.SSHKey, user: str, connections: set[asyncssh.SSHServerConnection]
    ) -> None:
        self._public = key.export_public_key("openssh").split()[:2]
        self._user = user
        self._connections = connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._user and key.export_public_key("openssh").split()[:2] == self._public


# -- commands ------------------------------------------------------------------------------------------


async def _converse(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Pass bytes both ways until the command has ended and said all, or its channel has closed."""
    feeding = asyncio.create_task(_feed(process, child))
    leaving = asyncio.create_task(_channel_closed(process))
    ending = asyncio.create_task(_report(process, child))
    try:
        await asyncio.wait({ending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await _hang_up(child)
        elif child.returncode is not None and child.returncode < 0:
            process.channel.exit_with_signal(signal.Signals(-child.returncode).name.removeprefix("SIG"))
        else:
            process.exit(child.returncode or 0)
    finally:
        for task in (feeding, leaving, ending):
            task.cancel()
        await asyncio.gather(feeding, leaving, ending, return_exceptions=True)
        _close_pipes(child)


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """The client's bytes into the command; what it no longer reads is thrown away, as sshd does."""
    assert child.stdin is not None
    listening = True
    while True:
        try:
            # asyncssh reopens its window whenever something is read, not by how much: a reader that takes
            # small bites gets megabytes for each, and memory grows with the upload. Taking all is bounded.
            data = await process.stdin.read(ALL)
        except asyncssh.SignalReceived as received:
            with contextlib.suppress(KeyError):
                _signal_group(child.pid, signal.Signals[f"SIG{received.signal}"])
            continue
        except asyncssh.BreakReceived:
            _signal_group(child.pid, signal.SIGINT)
            continue
        except asyncssh.TerminalSizeChanged:
            continue
        except (OSError, asyncssh.Error):
            return  # the connection is gone; _channel_closed sees it too
        if not data:
            child.stdin.close()
            return
        if listening:
            try:
                for start in range(0, len(data), CHUNK):
                    child.stdin.write(data[start : start + CHUNK])
                    await child.stdin.drain()
            except OSError:
                listening = False


async def _report(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """All that the command says, and its end."""
    assert child.stdout is not None and child.stderr is not None
    await asyncio.gather(
        _tell(child.stdout, process.stdout), _tell(child.stderr, process.stderr), child.wait()
    )


async def _tell(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    """The command's bytes to the client, until it closes its end."""
    while data := await source.read(CHUNK):
        try:
            target.write(data)
            await target.drain()
        except (OSError, asyncssh.Error):
            # Nobody listens: whether the command may go on is for _channel_closed to say.
            await asyncio.Event().wait()


async def _channel_closed(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Return when the client has closed the channel, or is gone."""
    channel = process.channel
    closed = asyncio.create_task(channel.wait_closed())
    try:
        while not closed.done() and not channel.is_closing():
            await asyncio.wait({closed}, timeout=CHANNEL_POLL)
    finally:
        closed.cancel()


async def _hang_up(child: asyncio.subprocess.Process) -> None:
    """End the command's process group: SIGHUP, and SIGKILL for who is still there a little later."""
    _signal_group(child.pid, signal.SIGHUP)
    deadline = asyncio.get_running_loop().time() + HANGUP_GRACE
    while _group_lives(child.pid) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    _signal_group(child.pid, signal.SIGKILL)


def _close_pipes(child: asyncio.subprocess.Process) -> None:
    """Close our ends, though a process that detached may hold the others for ever."""
    # asyncio.subprocess.Process has no public way to it; a command still running is killed by it.
    transport: asyncio.SubprocessTransport = child._transport  # type: ignore[attr-defined]
    transport.close()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
