"""A real OpenSSH server on loopback, with keys, configuration and account of its own."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.programs import program

HOST = "127.0.0.1"
ACCOUNT = "switchover-test"
ACCOUNT_LOCK = Path("/run/lock/switchover-test-account.lock")
START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
TOOL_TIMEOUT = 30.0
PORT_ATTEMPTS = 5


def find_sshd() -> Path | None:
    """The installed sshd; it re-executes itself, so its path must be absolute."""
    found = shutil.which(
        "sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )
    return Path(found).absolute() if found else None


def ensure_account() -> str:
    """The login account: the current user, or as root a plain one, made once per machine."""
    if os.geteuid() != 0:
        return getpass.getuser()
    ACCOUNT_LOCK.parent.mkdir(parents=True, exist_ok=True)
    with ACCOUNT_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one xdist worker makes it, the others wait
        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            _tool("useradd", "-m", "-s", "/bin/bash", ACCOUNT)
            # useradd leaves "!", which sshd takes for a locked account; "*" is no password, and not locked.
            _tool("usermod", "-p", "*", ACCOUNT)
    return ACCOUNT


class Sshd:
    """The server as a context manager.

    extra: lines for sshd_config. They come first, and sshd keeps the first value of a keyword, so they win
           over ours; from the first Match on they come last, since a Match block has no other end.
    user:  the account that clients log in as; as root any, else only the current one.
    sftp:  the subsystem's command, None to leave SFTP out.
    programs: by name, a script that runs before the host's program of that name; it is called $real there.
    """

    host = HOST

    def __init__(
        self,
        *,
        extra: str = "",
        user: str | None = None,
        sftp: str | None = "internal-sftp",
        programs: Mapping[str, str] | None = None,
    ) -> None:
        binary = find_sshd()
        if binary is None:
            raise FileNotFoundError(
                "openssh-server is not installed: no sshd in PATH, /usr/sbin, /usr/local/sbin"
            )
        self._binary = binary
        self._extra = extra
        self._sftp = sftp
        self.user = user or ensure_account()
        self.port = 0
        self.fingerprint = ""
        self._process: subprocess.Popen[bytes] | None = None
        # Open to all: sshd reads authorized_keys as the account. The private keys in it are not.
        self.folder = Path(tempfile.mkdtemp(prefix="switchover-sshd-"))
        self.folder.chmod(0o755)
        self.root = Path(tempfile.mkdtemp(prefix="switchover-host-")).resolve()
        self.root.chmod(0o755)
        self.give(self.root)
        self.identity = self.folder / "id_ed25519"
        self.known_hosts = self.folder / "known_hosts"
        self.config = self.folder / "sshd_config"
        self._host_key = self.folder / "host_ed25519"
        self._log = self.folder / "sshd.log"
        self.programs = self.folder / "bin"
        for name, before in (programs or {}).items():
            program(self.programs, name, before)
        if programs:
            self._extra = f"SetEnv PATH={self.programs}:/usr/bin:/bin\n{extra}"

    @property
    def pid(self) -> int:
        """The listening process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def log(self) -> str:
        """All that sshd has logged so far (LogLevel VERBOSE)."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def give(self, path: Path) -> Path:
        """Make one path the login account's; returns it."""
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        return path

    def new_dir(self, prefix: str = "site-") -> Path:
        """A fresh directory under root that belongs to the login account."""
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.root))
        folder.chmod(0o755)
        return self.give(folder)

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            _keygen(self.identity, "client")
            shutil.copyfile(self.identity.with_suffix(".pub"), self.folder / "authorized_keys")
            (self.folder / "authorized_keys").chmod(0o644)
            self._new_host_key()
            if os.geteuid() == 0:
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            self._listen_somewhere()
            self._write_known_hosts()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def start(self) -> None:
        """Listen on the port of before; raises with the log when that doesn't work in START_TIMEOUT s."""
        assert self._process is None, "the server is running already"
        self._write_config()
        logged = len(self.log())
        self._process = subprocess.Popen(
            [self._binary, "-D", "-f", self.config, "-E", self._log],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers(logged):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"sshd does not listen on port {self.port}:\n{self.log()[logged:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the listener and every session, at the latest after 2 * STOP_TIMEOUT seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        sessions: list[int] = []
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)  # so that no session begins while they are counted
            sessions = halted_descendants(process.pid)
            process.terminate()
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)
        end_processes(sessions)

    def drop_connections(self) -> None:
        """End every session as if sshd's children had crashed; the listener stays."""
        end_processes(halted_descendants(self.pid))

    def rekey(self, *, known: bool = False) -> None:
        """Take a new host key and restart on the same port; known_hosts keeps the old one unless `known`."""
        self.stop()
        self._new_host_key()
        self.start()
        if known:
            self._write_known_hosts()

    def change(self, line: str) -> None:
        """Give a keyword of sshd_config another value, and restart on the same port."""
        keyword, _, value = line.partition(" ")
        if keyword.lower() == "subsystem":
            self._sftp = value.partition(" ")[2]
        else:
            others = [x for x in self._extra.splitlines() if x.split()[:1] != [keyword]]
            self._extra = "\n".join([line, *others])
        self.stop()
        self.start()

    def reconfigure(self, extra: str, sftp: str | None) -> None:
        """Restart on the same port with these lines and this subsystem, as for a new Sshd."""
        self._extra, self._sftp = extra, sftp
        self.stop()
        self.start()

    def _clean_up(self) -> None:
        try:
            self.stop()
            if self.port:
                end_processes(detached_from(self.port))
        finally:
            shutil.rmtree(self.root, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _listen_somewhere(self) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = _free_port()
            try:
                self.start()
            except RuntimeError:
                # Somebody else took the port in between; any other failure is for the reader.
                if "already in use" not in self.log() or attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    def _answers(self, logged: int) -> bool:
        """Whether our own process listens: its log says so, and a connection gets a banner."""
        if f"Server listening on {HOST} port {self.port}" not in self.log()[logged:]:
            return False
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.port), timeout=1) as connection,
        ):
            return connection.recv(4) == b"SSH-"
        return False

    # -- files -----------------------------------------------------------------------------------------

    def _write_config(self) -> None:
        lines = self._extra.strip().splitlines()
        match = next((n for n, line in enumerate(lines) if line.split()[:1] == ["Match"]), len(lines))
        ours = [
            f"Port {self.port}",
            f"ListenAddress {HOST}",
            f"HostKey {self._host_key}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "LogLevel VERBOSE",
            "UsePAM no",
            "StrictModes no",
            "PubkeyAuthentication yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "UseDNS no",
            "PrintMotd no",
            "PrintLastLog no",
            "AcceptEnv LANG LC_*",
            "LoginGraceTime 60",
            "MaxAuthTries 20",
            "MaxStartups 100:30:200",
            "MaxSessions 20",
        ]
        # sshd takes the first value of most keywords, and the last one of a few.
        given = {line.split()[0].lower() for line in lines[:match] if line.split()}
        ours = [line for line in ours if line.split()[0].lower() not in given - {"listenaddress"}]
        if self._sftp is not None:
            ours.append(f"Subsystem sftp {self._sftp}")
        # From 9.8 on sshd locks out an address that fails to log in, and all our clients share one.
        for penalties in (["PerSourcePenalties no"], []):
            self.config.write_text("\n".join([*lines[:match], *ours, *penalties, *lines[match:], ""]))
            check = subprocess.run(
                [self._binary, "-t", "-f", self.config], capture_output=True, text=True, timeout=TOOL_TIMEOUT
            )
            if "PerSourcePenalties" not in check.stderr:
                break
        if check.returncode != 0:
            raise RuntimeError(f"sshd refuses its configuration: {check.stderr.strip()}")

    def _new_host_key(self) -> None:
        for old in (self._host_key, self._host_key.with_suffix(".pub")):
            old.unlink(missing_ok=True)
        _keygen(self._host_key, "host")
        self.fingerprint = _tool("ssh-keygen", "-l", "-f", str(self._host_key)).split()[1]

    def _write_known_hosts(self) -> None:
        public = self._host_key.with_suffix(".pub").read_text()
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {public}")
        self.known_hosts.chmod(0o644)


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, parents first; nothing where there is no /proc."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            after_name = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(process.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found[1:]


def halted_descendants(pid: int) -> list[int]:
    """Every process below `pid`, each stopped, so that none of them can fork one that is not in the list."""
    found: list[int] = []
    while fresh := [child for child in descendants(pid) if child not in found]:
        for child in fresh:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGSTOP)
        found.extend(fresh)
    return found


def detached_from(port: int) -> list[int]:
    """Processes that were started through the server on `port`, wherever they went since."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for variable in (process / "environ").read_bytes().split(b"\0"):
                if variable.startswith(b"SSH_CONNECTION=") and variable.endswith(f" {HOST} {port}".encode()):
                    found.append(int(process.name))
    return found


def end_processes(pids: list[int]) -> None:
    """SIGKILL each, and wait (bounded) until none of them runs."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + STOP_TIMEOUT
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


Serve = Callable[..., Sshd]  # what the fixture `serve` is


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _keygen(path: Path, comment: str) -> None:
    _tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))


def _tool(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=TOOL_TIMEOUT, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout
