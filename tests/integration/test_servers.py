"""The servers that the other tests trust: each speaks SSH and SFTP for real, and leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from fabfile.demo.server import Server
from tests.support.proxy import Proxy
from tests.support.sshd import Sshd, runs

AnyServer = Server | Sshd
TIMEOUT = 20.0

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["embedded", "sshd"])
def server(request: pytest.FixtureRequest) -> AnyServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Server | Sshd)
    return found


@pytest.fixture
def client(server: AnyServer) -> Iterator[paramiko.SSHClient]:
    with connect(server) as connected:
        yield connected


@pytest.fixture
def folder(server: AnyServer, tmp_path: Path) -> Iterator[Path]:
    """A directory that the server's account may write."""
    made = server.new_dir() if isinstance(server, Sshd) else tmp_path
    yield made
    shutil.rmtree(made, ignore_errors=True)


def connect(server: AnyServer, port: int | None = None) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    if port is None:
        client.load_host_keys(str(server.known_hosts))
    else:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        server.host,
        port or server.port,
        server.user,
        key_filename=str(server.identity),
        allow_agent=False,
        look_for_keys=False,
        timeout=TIMEOUT,
        banner_timeout=TIMEOUT,
        auth_timeout=TIMEOUT,
        channel_timeout=TIMEOUT,
    )
    return client


def start(client: paramiko.SSHClient, command: str) -> paramiko.Channel:
    transport = client.get_transport()
    assert transport is not None
    channel = transport.open_session(timeout=TIMEOUT)
    channel.settimeout(TIMEOUT)
    channel.exec_command(command)
    return channel


def read_all(channel: paramiko.Channel) -> bytes:
    parts = []
    while data := channel.recv(65536):
        parts.append(data)
    return b"".join(parts)


def exit_status(channel: paramiko.Channel) -> int:
    assert channel.status_event.wait(TIMEOUT), "no exit status"
    return int(channel.recv_exit_status())


def run(client: paramiko.SSHClient, command: str) -> bytes:
    channel = start(client, command)
    output = read_all(channel)
    assert exit_status(channel) == 0
    return output


def eventually(condition: object, what: str, timeout: float = TIMEOUT) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.02)


def port_is_closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


# -- commands ------------------------------------------------------------------------------------------


def test_exec_returns_both_outputs_and_the_exit_status(client: paramiko.SSHClient) -> None:
    channel = start(client, "echo out; echo err >&2; exit 7")
    assert read_all(channel) == b"out\n"
    assert channel.makefile_stderr("rb").read() == b"err\n"
    assert exit_status(channel) == 7


def test_a_command_killed_by_a_signal_has_no_exit_status(client: paramiko.SSHClient) -> None:
    channel = start(client, "kill -KILL $$")
    assert read_all(channel) == b""
    assert exit_status(channel) == -1


def test_a_command_starts_at_home_with_a_sane_environment(
    server: AnyServer, client: paramiko.SSHClient
) -> None:
    home, cwd, user, path, connection = (
        run(client, 'printf "%s\\n" "$HOME" "$(pwd)" "$USER" "$PATH" "$SSH_CONNECTION"').decode().splitlines()
    )
    assert Path(home).samefile(cwd)
    assert user == server.user
    assert "/bin" in path
    assert connection.endswith(f"127.0.0.1 {server.port}")


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_binary_stdin_comes_back_intact(client: paramiko.SSHClient, size: int) -> None:
    data = os.urandom(size)
    channel = start(client, "cat")
    back: list[bytes] = []
    reading = threading.Thread(target=lambda: back.append(read_all(channel)), daemon=True)
    reading.start()
    channel.sendall(data)
    channel.shutdown_write()
    reading.join(TIMEOUT)
    assert back and hashlib.sha256(back[0]).digest() == hashlib.sha256(data).digest()
    assert exit_status(channel) == 0


def test_a_shell_without_a_command_reads_stdin(client: paramiko.SSHClient) -> None:
    transport = client.get_transport()
    assert transport is not None
    channel = transport.open_session(timeout=TIMEOUT)
    channel.settimeout(TIMEOUT)
    channel.invoke_shell()
    channel.sendall(b"echo $((6 * 7)); exit 3\n")
    channel.shutdown_write()
    assert read_all(channel).strip() == b"42"
    assert exit_status(channel) == 3


@pytest.mark.parametrize(
    "command", ["exit 3", "head -c 10 >/dev/null; exit 3", "exec 0<&-; sleep 0.5; exit 3"]
)
def test_a_command_that_leaves_early_does_not_hang_the_sender(
    client: paramiko.SSHClient, command: str
) -> None:
    channel = start(client, command)
    block = bytes(65536)
    try:
        for _ in range(20 * 16):  # 20 MB, ten times what any window holds
            channel.sendall(block)
        channel.shutdown_write()
    except OSError:
        pass  # the channel was closed under us, which is fair
    assert exit_status(channel) == 3


def test_tar_refuses_a_broken_stream_without_hanging(client: paramiko.SSHClient, folder: Path) -> None:
    channel = start(client, f"tar -x -C {shlex.quote(str(folder))}")
    try:
        for _ in range(5 * 16):
            channel.sendall(b"not a tar archive\n" * 3640)
        channel.shutdown_write()
    except OSError:
        pass
    assert exit_status(channel) == 2


def test_many_channels_at_once(client: paramiko.SSHClient) -> None:
    channels = [start(client, f"sleep 0.2; echo {number}; exit {number}") for number in range(8)]
    assert [read_all(channel) for channel in channels] == [f"{n}\n".encode() for n in range(8)]
    assert [exit_status(channel) for channel in channels] == list(range(8))


def test_a_detached_process_outlives_its_connection(server: AnyServer) -> None:
    with connect(server) as client:
        pid = int(run(client, "setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!"))
        session = int(run(client, "echo $PPID"))
    try:
        if session != os.getpid():  # the embedded server has no process of its own
            eventually(lambda: not runs(session), "the connection's own process is gone")
        assert runs(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


# -- files ---------------------------------------------------------------------------------------------


def test_sftp_puts_gets_links_renames_and_measures(
    client: paramiko.SSHClient, folder: Path, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    local = tmp_path / "local"
    local.write_bytes(data)
    with client.open_sftp() as sftp:
        sftp.get_channel().settimeout(TIMEOUT)
        base = str(folder)
        sftp.put(str(local), f"{base}/ünï code")
        assert (folder / "ünï code").read_bytes() == data
        sftp.get(f"{base}/ünï code", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == data
        assert [entry.filename for entry in sftp.listdir_attr(base) if entry.filename.startswith("ü")] == [
            "ünï code"
        ]

        sftp.symlink("releases/1", f"{base}/next")
        sftp.symlink("releases/0", f"{base}/current")
        assert sftp.readlink(f"{base}/next") == "releases/1"
        with pytest.raises(OSError):
            sftp.rename(f"{base}/ünï code", f"{base}/current")
        sftp.posix_rename(f"{base}/next", f"{base}/current")
        assert (folder / "current").readlink() == Path("releases/1")

        with pytest.raises(FileNotFoundError) as missing:
            sftp.stat(f"{base}/current")
        assert missing.value.errno == errno.ENOENT
        assert sftp.lstat(f"{base}/current").st_mode is not None
        sftp.mkdir(f"{base}/releases")
        sftp.mkdir(f"{base}/releases/1")
        assert sftp.normalize(f"{base}/current") == str(folder.resolve() / "releases/1")
        with pytest.raises(FileNotFoundError):
            sftp.normalize(f"{base}/no/such/path")

        kind, answer = sftp._request(paramiko.sftp.CMD_EXTENDED, "statvfs@openssh.com", base)
        assert kind == paramiko.sftp.CMD_EXTENDED_REPLY
        block, fragment, blocks = (answer.get_int64() for _ in range(3))
        here = os.statvfs(folder)
        assert (block, fragment, blocks) == (here.f_bsize, here.f_frsize, here.f_blocks)


def test_sftp_begins_at_home(client: paramiko.SSHClient) -> None:
    with client.open_sftp() as sftp:
        sftp.get_channel().settimeout(TIMEOUT)
        assert sftp.normalize(".") == run(client, "pwd -P").decode().rstrip("\n")


# -- rsync ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (shutil.which("rsync") and shutil.which("ssh")), reason="needs rsync and ssh")
def test_rsync_both_ways(server: AnyServer, folder: Path, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "big").write_bytes(os.urandom(3_000_000))
    for number in range(50):
        (source / f"file {number}").write_text(str(number))
    (source / "link").symlink_to("deep/big")
    ssh = (
        f"ssh -F none -p {server.port} -i {server.identity} -o IdentitiesOnly=yes -o BatchMode=yes"
        f" -o UserKnownHostsFile={server.known_hosts} -o GlobalKnownHostsFile=none"
        " -o StrictHostKeyChecking=yes"
    )
    remote = f"{server.user}@{server.host}:{folder}/mirror/"
    for origin, target in ((f"{source}/", remote), (remote, f"{back}/")):
        done = subprocess.run(
            ["rsync", "-rlt", "-e", ssh, origin, target], capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stderr
    compared = subprocess.run(
        ["diff", "-r", "--no-dereference", source, back], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert compared.returncode == 0, compared.stdout


# -- the end -------------------------------------------------------------------------------------------


def long_commands(client: paramiko.SSHClient) -> list[int]:
    """One that waits, one that ignores hangups, one in the background: their pids."""
    waiting = start(client, "echo $$; sleep 100; :")
    stubborn = start(client, "trap '' HUP TERM; echo $$; while :; do sleep 1; done")
    background = run(client, "sleep 100 </dev/null >/dev/null 2>&1 & echo $!")
    client.held = [waiting, stubborn]  # paramiko closes a channel that nobody refers to
    return [int(waiting.recv(100)), int(stubborn.recv(100)), int(background)]


@pytest.mark.parametrize("kind", ["embedded", "sshd"])
def test_a_server_that_ended_leaves_no_port_process_or_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: AnyServer
    if kind == "sshd":
        request.getfixturevalue("sshd_installed")
        server = Sshd()
    else:
        server = Server(home=tmp_path)
    threads = threading.active_count()
    with server:
        client = connect(server)
        pids = long_commands(client)
        if isinstance(server, Sshd):
            pids.append(server.pid)
        assert all(runs(pid) for pid in pids)
    eventually(lambda: not any(runs(pid) for pid in pids), "every process ends", timeout=5)
    client.close()
    assert port_is_closed(server.port)
    assert not server.identity.parent.exists()
    eventually(lambda: threading.active_count() <= threads, "every thread ends")


def test_the_embedded_server_ends_a_command_whose_channel_closes(embedded: Server) -> None:
    with connect(embedded) as client:
        channel = start(client, "echo $$; exec sleep 100")
        pid = int(channel.recv(100))
        channel.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:  # until every buffer on the way to a command that reads nothing is full
                channel.sendall(bytes(65536))
        channel.close()
        eventually(lambda: not runs(pid), "the command ends", timeout=5)


def test_the_embedded_server_ends_a_command_whose_connection_dies(embedded: Server) -> None:
    with Proxy(embedded.port) as proxy:
        client = connect(embedded, proxy.port)
        pid = int(start(client, "echo $$; exec sleep 100").makefile("rb").readline())
        proxy.cut()
        eventually(lambda: not runs(pid), "the command ends", timeout=5)
        client.close()


def test_the_embedded_server_takes_one_user_with_one_key(
    embedded: Server, tmp_path: Path, sshd: Sshd
) -> None:
    transport = paramiko.Transport((embedded.host, embedded.port))
    try:
        transport.start_client(timeout=TIMEOUT)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(
                embedded.user, paramiko.Ed25519Key.from_private_key_file(str(sshd.identity))
            )
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(
                "somebody-else", paramiko.Ed25519Key.from_private_key_file(str(embedded.identity))
            )
    finally:
        transport.close()


def test_the_embedded_server_can_go_without_sftp(tmp_path: Path) -> None:
    with Server(home=tmp_path, sftp=False) as server, connect(server) as client:
        with pytest.raises(paramiko.SSHException):
            client.open_sftp()
        assert run(client, "echo still here") == b"still here\n"


def test_the_embedded_server_can_chroot_sftp_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "site/releases/1").mkdir(parents=True)
    (root / "site/current").symlink_to("releases/1")
    (root / "site/absolute").symlink_to("/site/releases/1")
    (root / "outside").symlink_to("../../../../../../../../../etc/passwd")
    with Server(home=tmp_path, sftp_root=root) as server, connect(server) as client:
        assert Path(run(client, "pwd").decode().strip()) == tmp_path
        with client.open_sftp() as sftp:
            sftp.get_channel().settimeout(TIMEOUT)
            assert sorted(sftp.listdir("/")) == ["outside", "site"]
            assert sftp.normalize(".") == "/"
            assert sftp.normalize("/site/current") == "/site/releases/1"
            assert sftp.normalize("/site/absolute") == "/site/releases/1"
            assert sftp.readlink("/site/absolute") == "/site/releases/1"
            assert sftp.listdir("/site/absolute/..") == ["1"]
            with pytest.raises(FileNotFoundError):
                sftp.stat("/outside")
            with sftp.open("/../../site/absolute/file", "w") as file:
                file.write("here")
            assert (root / "site/releases/1/file").read_text() == "here"


@pytest.mark.timeout(110)
def test_the_embedded_server_takes_a_large_upload_with_bounded_memory(embedded: Server) -> None:
    """200 MB into a command that reads slower than we send."""
    before = resident_mb()
    with connect(embedded) as client:
        channel = start(client, "sleep 1; cat | cat | wc -c")
        block = bytes(1024 * 1024)
        for _ in range(200):
            channel.sendall(block)
        channel.shutdown_write()
        assert read_all(channel).strip() == str(200 * 1024 * 1024).encode()
    assert resident_mb() - before < 60


def resident_mb() -> int:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


# -- the lab's own tricks ------------------------------------------------------------------------------


def test_sshd_rekeys_on_the_same_port(sshd_installed: None) -> None:
    with Sshd() as server:
        port, fingerprint = server.port, server.fingerprint
        with connect(server) as client:
            run(client, "true")
        server.rekey()
        assert server.port == port
        assert server.fingerprint != fingerprint
        with pytest.raises(paramiko.BadHostKeyException):
            connect(server)
        server.rekey(known=True)
        with connect(server) as client:
            assert run(client, "echo back") == b"back\n"


def test_sshd_takes_extra_lines_and_can_go_without_sftp(sshd_installed: None) -> None:
    extra = "MaxSessions 1\nMatch User nobody-here\nForceCommand false"
    with (
        Sshd(extra=extra, sftp=None) as server,
        connect(server) as client,
        pytest.raises(paramiko.SSHException),
    ):
        client.open_sftp()
    with Sshd(extra=extra) as server, connect(server) as client:
        held = start(client, "sleep 20")
        with pytest.raises(paramiko.SSHException):
            start(client, "true")
        held.close()
        assert "Accepted publickey" in server.log()


def test_sshd_says_why_it_does_not_start(sshd_installed: None) -> None:
    server = Sshd(extra="NoSuchKeyword yes")
    with pytest.raises(RuntimeError, match="NoSuchKeyword"), server:
        pass
    assert not server.folder.exists()


def test_sshd_drops_connections_and_goes_on(sshd_installed: None) -> None:
    with Sshd() as server, connect(server) as client:
        transport = client.get_transport()
        assert transport is not None
        server.drop_connections()
        eventually(lambda: not transport.is_active(), "the client notices")
        with connect(server) as again:
            assert run(again, "echo back") == b"back\n"


def test_host_dir_belongs_to_the_login_account(sshd: Sshd, host_dir: Path) -> None:
    with connect(sshd) as client:
        run(client, f"touch {shlex.quote(str(host_dir))}/mine && test -O {shlex.quote(str(host_dir))}")
    assert (host_dir / "mine").exists()


def test_proxy_passes_counts_and_cuts(server: AnyServer) -> None:
    with Proxy(server.port) as proxy:
        with connect(server, proxy.port) as client:
            assert run(client, "echo through") == b"through\n"
            transport = client.get_transport()
            assert transport is not None
            assert (proxy.connections, proxy.open_connections) == (1, 1)
            assert proxy.uploaded > 0 and proxy.downloaded > 0
            assert proxy.cut() == 1
            eventually(lambda: not transport.is_active(), "the client notices")
        eventually(lambda: proxy.open_connections == 0, "no connection is left")


def test_proxy_cuts_with_a_reset_after_so_many_bytes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(TIMEOUT)
        with Proxy(target.getsockname()[1]) as proxy:
            proxy.cut_after(1000)
            with socket.create_connection((proxy.host, proxy.port), timeout=TIMEOUT) as near:
                far, _ = target.accept()
                far.settimeout(TIMEOUT)
                near.sendall(bytes(600))
                got = 0
                while got < 600:
                    got += len(far.recv(4096))
                near.sendall(bytes(600))
                with pytest.raises(ConnectionResetError):
                    while data := far.recv(4096):
                        got += len(data)
                with pytest.raises(ConnectionResetError):
                    near.recv(1)
                far.close()
            assert got <= 1000
            assert (proxy.uploaded, proxy.cuts) == (1000, 1)


def test_proxy_freezes_and_thaws(server: AnyServer) -> None:
    with Proxy(server.port) as proxy, connect(server, proxy.port) as client:
        channel = start(client, "cat")
        proxy.freeze()
        channel.sendall(b"late\n")
        channel.settimeout(0.4)
        with pytest.raises(TimeoutError):
            channel.recv(10)
        proxy.thaw()
        channel.settimeout(TIMEOUT)
        assert channel.recv(10) == b"late\n"


def test_proxy_refuses(server: AnyServer) -> None:
    with Proxy(server.port) as proxy:
        proxy.refuse()
        with pytest.raises((OSError, EOFError, paramiko.SSHException)):
            connect(server, proxy.port)
        assert proxy.refused == 1
        proxy.refuse(False)
        with connect(server, proxy.port) as client:
            run(client, "true")


def test_proxy_delays_without_slowing_down(server: AnyServer) -> None:
    with Proxy(server.port, delay=0.1) as proxy, connect(server, proxy.port) as client:
        began = time.monotonic()
        assert run(client, "echo") == b"\n"
        assert time.monotonic() - began >= 0.4  # opening, and running: two round trips
        began = time.monotonic()
        assert len(run(client, "head -c 8000000 /dev/zero")) == 8_000_000
        assert time.monotonic() - began < 5


def test_proxy_passes_a_half_close_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(TIMEOUT)
        with (
            Proxy(target.getsockname()[1], delay=0.05) as proxy,
            socket.create_connection((proxy.host, proxy.port), timeout=TIMEOUT) as near,
        ):
            far, _ = target.accept()
            far.settimeout(TIMEOUT)
            near.sendall(b"question")
            near.shutdown(socket.SHUT_WR)
            asked = b""
            while data := far.recv(100):
                asked += data
            far.sendall(b"answer" * 100_000)
            far.close()
            answer = b""
            while data := near.recv(65536):
                answer += data
            assert (asked, answer) == (b"question", b"answer" * 100_000)
            eventually(lambda: proxy.open_connections == 0, "the link ends")
