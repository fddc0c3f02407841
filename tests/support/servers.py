"""Other servers than OpenSSH's, and what stands between: Dropbear, ProFTPD, HAProxy, and odd ports."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import public_folder
from tests.support.sockets import listening
from tests.support.sshd import HOST, ensure_account

STARTS_WITHIN = 10.0  # seconds
ENDS_WITHIN = 5.0


@dataclass
class Server:
    """Where a server listens, and who may log in."""

    port: int
    user: str = ""
    identity: Path | None = None
    host: str = HOST


@contextlib.contextmanager
def dropbear() -> Iterator[Server]:
    """Dropbear, with OpenSSH's sftp-server."""
    with public_folder() as folder, contextlib.ExitStack() as stack:
        server = Server(free_port(), ensure_account(), _key(folder))
        (folder / "host").unlink(missing_ok=True)
        _run("dropbearkey", "-t", "ed25519", "-f", str(folder / "host"))
        home = Path(pwd.getpwnam(server.user).pw_dir)
        stack.enter_context(_authorized(home, server, folder))
        words = ["dropbear", "-F", "-E", "-r", str(folder / "host"), "-p", f"{HOST}:{server.port}", "-P", ""]
        stack.enter_context(_process(words, server.port))
        yield server


@contextlib.contextmanager
def proftpd() -> Iterator[Server]:
    """ProFTPD's mod_sftp: SFTP, and no shell."""
    with public_folder() as folder:
        server = Server(free_port(), ensure_account(), _key(folder))
        _run("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-m", "PEM", "-f", str(folder / "host"))
        keys = folder / "keys"
        keys.mkdir(mode=0o755)
        public = subprocess.run(
            ["ssh-keygen", "-e", "-f", f"{server.identity}.pub"], capture_output=True, text=True, check=True
        ).stdout
        (keys / server.user).write_text(public)
        config = folder / "proftpd.conf"
        config.write_text(f"""
ServerType standalone
ModulePath /usr/lib/proftpd
LoadModule mod_sftp.c
Port {server.port}
DefaultAddress {HOST}
SocketBindTight on
User nobody
Group nogroup
PidFile {folder}/pid
ScoreboardFile {folder}/scoreboard
SystemLog {folder}/log
WtmpLog off
UseIPv6 off
RequireValidShell off
AuthPAM off
SFTPEngine on
SFTPHostKey {folder}/host
SFTPAuthMethods publickey
SFTPAuthorizedUserKeys file:{keys}/%u
""")
        with _process(["proftpd", "-n", "-c", str(config)], server.port):
            yield server


@contextlib.contextmanager
def haproxy(ports: Sequence[int], *, idle: float = 60.0) -> Iterator[int]:
    """A load balancer over these ports, each in its turn; its port. idle: seconds after which it hangs up."""
    with public_folder() as folder:
        port = free_port()
        servers = "\n".join(f"  server s{n} {HOST}:{target}" for n, target in enumerate(ports))
        config = folder / "haproxy.cfg"
        config.write_text(f"""
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client {idle:g}s
  timeout server {idle:g}s
listen ssh
  bind {HOST}:{port}
  balance roundrobin
{servers}
""")
        with _process(["haproxy", "-db", "-f", str(config)], port):
            yield port


@contextlib.contextmanager
def speaks(greeting: bytes, *, hang_up: bool = False) -> Iterator[int]:
    """A port that greets every connection so, and then hangs up or says nothing more."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(greeting)
        if hang_up:
            connection.close()

    with listening(greet) as port:
        yield port


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _authorized(home: Path, server: Server, folder: Path) -> Iterator[None]:
    """Dropbear knows no other place for keys than the home directory."""
    keys = home / ".ssh" / "authorized_keys"
    account = pwd.getpwnam(server.user)
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    keys.write_text(Path(f"{server.identity}.pub").read_text())
    for path in (keys.parent, keys):
        os.chown(path, account.pw_uid, account.pw_gid)
    keys.chmod(0o600)
    try:
        yield
    finally:
        keys.unlink(missing_ok=True)


@contextlib.contextmanager
def _process(words: Sequence[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(ENDS_WITHIN)


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Until it listens; asked of the kernel, since a connection would count as somebody's turn."""
    deadline = time.monotonic() + STARTS_WITHIN
    wanted = f"0100007F:{port:04X}"
    while wanted not in Path("/proc/net/tcp").read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not listen on port {port}")
        time.sleep(0.02)


def _key(folder: Path) -> Path:
    identity = folder / "id_ed25519"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(identity))
    return identity


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
