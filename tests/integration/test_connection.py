"""A bad network under a deployment: it goes on by itself, or ends soon with a clear error."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fabric
import pytest

from fabfile.errors import ConnectionLost
from fabfile.events import Event, Note, Progress, StepStarted
from fabfile.remote.files import SftpFiles, ShellFiles
from fabfile.remote.host import Host, connect
from fabfile.settings import Ssh
from tests.support.project import Project, ProjectOn, untouched
from tests.support.proxy import Proxy
from tests.support.skipping import unavailable
from tests.support.sshd import Serve, Sshd
from tests.support.waiting import Barrier, eventually

pytestmark = pytest.mark.timeout(120)

# A dead peer is noticed after 0.6 s, and a lost connection tried again for some seconds.
SOON = {
    "connect_timeout": 2,
    "keepalive": {"interval": 0.2, "count": 3},
    "reconnect": {"attempts": 6, "window": 20},
}


@pytest.fixture
def project(project: Project) -> Project:
    """A small site, and an empty directory on the host to deploy it to."""
    project.configure(ssh=SOON)
    return project


class Once:
    """An event listener that does something the first time that an event is the one."""

    def __init__(self, is_it: Callable[[Event], bool], do: Callable[[], object]) -> None:
        self.is_it = is_it
        self.do = do
        self.done = False
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        if not self.done and self.is_it(event):
            self.done = True
            self.do()


def at(step: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StepStarted) and event.step == step


def half_uploaded(event: Event) -> bool:
    return isinstance(event, Progress) and 0 < event.done < event.total and event.done > event.total / 4


def bulk(project: Project, size: int = 8 << 20) -> bytes:
    """A file that takes its time and can't be compressed."""
    data = random.Random(1).randbytes(size)
    (project.build / "bulk").write_bytes(data)
    return data


@contextlib.contextmanager
def in_background(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread; what it raises is raised at the end."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001  (raised below)
            problems.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


# -- cut -------------------------------------------------------------------------------------------------

STEPS = ["lock", "check", "compare", "upload", "copy", "link", "verify", "switch", "after_switch", "unlock"]


@pytest.mark.promise("cut")
@pytest.mark.parametrize("step", STEPS)
def test_cut_between_steps_it_goes_on(project: Project, network: Proxy, step: str) -> None:
    first = project.deployed()
    project.write({"index.html": "two\n"})
    project.configure(ssh=SOON, hooks={"after_switch": ["true"]}, keep_releases=1)
    cut = Once(at(step), network.cut)
    outcome = project.deploy(listener=cut, targets=[project.address(network.port)])
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert cut.done and network.cuts == 1 and network.connections == 2
    assert outcome.hosts[0].reconnects == 1
    assert any("reconnected after" in note for note in cut.notes)
    assert (project.current / "index.html").read_text() == "two\n" and project.live != first
    assert project.is_tidy()


@pytest.mark.parametrize("transfer", ["stream", "sftp", "rsync"])
def test_cut_in_the_middle_of_an_upload(project: Project, network: Proxy, transfer: str) -> None:
    if transfer == "rsync" and not (shutil.which("rsync") and shutil.which("ssh")):
        unavailable("rsync or ssh is not installed")
    data = bulk(project)
    project.configure(ssh=SOON, transfer=transfer)
    network.cut_after(2 << 20)
    done = project.fab("deploy", "--json", hosts=project.address(network.port))
    assert network.cuts == 1
    assert (project.current / "bulk").read_bytes() == data
    assert project.is_tidy()
    if transfer != "rsync":  # that has a connection of its own
        assert done.host["reconnects"] == 1
        assert "reconnected after" in done.stderr


def test_cut_under_a_hook_it_runs_on_and_only_once(
    project: Project, network: Proxy, barrier: Barrier
) -> None:
    trace = project.server.new_dir("trace-") / "ran"
    project.configure(ssh=SOON, hooks={"before_switch": [f"echo ran >> {trace}; {barrier.hook}; echo over"]})
    with project.start("deploy", "--json", hosts=project.address(network.port)) as running:
        barrier.wait()
        assert network.cut() == 1
        eventually(lambda: network.connections == 2, "it connects again")
        barrier.open()
        done = running.finish()
    assert done.host["reconnects"] == 1
    assert trace.read_text() == "ran\n"
    assert done.stderr.count("│ over") == 1


def test_refused_for_the_whole_window(project: Project, network: Proxy, barrier: Barrier) -> None:
    project.deployed()
    window = {**SOON, "reconnect": {"attempts": 2, "window": 5}}
    project.configure(ssh=window, hooks={"before_switch": [barrier.hook]})
    with untouched(project):
        with project.start("deploy", "--json", hosts=project.address(network.port)) as running:
            barrier.wait()
            network.refuse()
            network.cut()
            done = running.finish(code=1)
        barrier.open()
        assert network.refused >= 2
        done.says("was lost and could not be had again", "2 attempts within 5 s", "host answers again")
    # What the message says to do when the host answers again.
    project.fab("unlock", "--force")
    project.configure()
    project.fab("deploy")


# -- freeze ----------------------------------------------------------------------------------------------


def thaw_when_noticed(network: Proxy) -> None:
    """A second connection is only made when the first was given up."""
    try:
        eventually(lambda: network.connections >= 2, "the silence is noticed, and another connection tried")
    finally:
        network.thaw()


def test_frozen_in_the_middle_of_an_upload(project: Project, network: Proxy) -> None:
    data = bulk(project)
    freeze = Once(half_uploaded, network.freeze)
    with in_background(lambda: thaw_when_noticed(network)):
        outcome = project.deploy(listener=freeze, targets=[project.address(network.port)])
    assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
    assert outcome.hosts[0].reconnects >= 1
    assert any("the peer answered nothing for 0.6 s" in note for note in freeze.notes)
    assert (project.current / "bulk").read_bytes() == data


def test_frozen_under_a_hook(project: Project, network: Proxy, barrier: Barrier) -> None:
    project.configure(ssh=SOON, hooks={"before_switch": [barrier.hook]})
    with project.start("deploy", "--json", hosts=project.address(network.port)) as running:
        barrier.wait()
        network.freeze()
        thaw_when_noticed(network)
        barrier.open()
        done = running.finish()
    assert done.host["reconnects"] >= 1 and project.live == done.host["release"]


def test_frozen_for_good(project: Project, network: Proxy, barrier: Barrier) -> None:
    project.deployed()
    ssh = {**SOON, "connect_timeout": 0.5, "reconnect": {"attempts": 2, "window": 2}}
    project.configure(ssh=ssh, hooks={"before_switch": [barrier.hook]})
    with untouched(project):
        with project.start("deploy", hosts=project.address(network.port)) as running:
            barrier.wait()
            network.freeze()
            done = running.finish(code=1, timeout=45)  # with nobody there to thaw it
        barrier.open()
    done.says("was lost and could not be had again", "answered nothing for 0.6 s", "2 attempts within 2 s")


# -- sessions that end ------------------------------------------------------------------------------------


def test_a_server_that_closes_quiet_sessions(project_on: ProjectOn) -> None:
    """Each session that was quiet for a second; and its `cp -a` takes three."""
    slow = '[ "$1" != -a ] || sleep 3'
    project = project_on(extra="ChannelTimeout session:*=1s", programs={"cp": slow})
    project.configure(hooks={"before_switch": ["sleep 3; echo slept"]})
    done = project.fab("deploy", "--json")
    assert done.host["phases"]["copy"] > 3  # it was slow
    assert (project.current / "index.html").read_text() == "one\n"
    assert done.stderr.count("│ slept") == 1 and project.is_tidy()


def host_of(project: Project, port: int) -> Host:
    rules = Ssh(
        connect_timeout=5,
        known_hosts=project.known_hosts,
        sftp="require",
        reconnect={"attempts": 3, "window": 10},  # type: ignore[arg-type]
    )
    config = fabric.Config(runtime_ssh_path=str(project.ssh_config))
    return connect("host", project.address(port), rules, config, identity=str(project.server.identity))


def test_an_sftp_client_is_not_used_after_its_connection(project: Project, network: Proxy) -> None:
    (project.deploy_to / "file").write_text("here\n")
    host = host_of(project, network.port)
    try:
        before = host.files.sftp.session() if host.files.read(f"{project.deploy_to}/file") else None
        network.cut()
        assert host.files.read(f"{project.deploy_to}/file") == b"here\n"
        assert host.files.sftp.session() is not before and host.files.uses_sftp
        assert host.connection.reconnects == 1
        # The same where only the channel went, as after sshd's ChannelTimeout.
        host.files.sftp.session().channel.close()
        assert host.files.read(f"{project.deploy_to}/file") == b"here\n"
        assert host.connection.reconnects == 1 and host.files.uses_sftp
        # And where nobody answers any more, it says so.
        network.refuse()
        network.cut()
        with pytest.raises(ConnectionLost):
            host.files.read(f"{project.deploy_to}/file")
    finally:
        host.close()


# -- jump hosts and gateways -------------------------------------------------------------------------------


@pytest.fixture
def jump(serve: Serve) -> Sshd:
    return serve(extra="AllowTcpForwarding yes")


@pytest.mark.parametrize("transfer", ["stream", "rsync"])
def test_a_jump_host_of_ssh_config(project: Project, jump: Sshd, transfer: str) -> None:
    if transfer == "rsync" and not (shutil.which("rsync") and shutil.which("ssh")):
        unavailable("rsync or ssh is not installed")
    target = project.server
    with Proxy(jump.port) as to_jump:
        project.ssh_config.write_text(
            f"Host jump\n  HostName 127.0.0.1\n  Port {to_jump.port}\n  User {jump.user}\n"
            f"  IdentityFile {jump.identity}\n"
            f"Host shop\n  HostName 127.0.0.1\n  Port {target.port}\n  User {target.user}\n"
            f"  IdentityFile {target.identity}\n  ProxyJump jump\n"
        )
        done = project.fab("deploy", "--json", "--transfer", transfer, hosts="shop")
        assert to_jump.connections >= 1
    assert f"Accepted publickey for {jump.user}" in jump.log()
    assert (done.host["host"], done.host["release"]) == ("shop", project.live)
    # Both hosts' keys were looked at, and remembered.
    assert project.known_hosts.read_text().count("ssh-ed25519") == 2


def test_a_jump_host_that_is_cut(project: Project, jump: Sshd, barrier: Barrier) -> None:
    project.configure(ssh=SOON, hooks={"before_switch": [barrier.hook]})
    with Proxy(jump.port) as to_jump:
        project.ssh_config.write_text(
            f"Host jump\n  HostName 127.0.0.1\n  Port {to_jump.port}\n  User {jump.user}\n"
            f"  IdentityFile {jump.identity}\n"
            f"Host shop\n  HostName 127.0.0.1\n  Port {project.server.port}\n  User {project.server.user}\n"
            "  ProxyJump jump\n"
        )
        with project.start("deploy", "--json", hosts="shop") as running:
            barrier.wait()
            to_jump.cut()
            eventually(lambda: to_jump.connections == 2, "it connects again")
            barrier.open()
            done = running.finish()
    assert done.host["reconnects"] == 1 and project.live


def test_the_gateway_of_fabric(project: Project) -> None:
    """Fabric's own `gateway`: a ProxyCommand, here from a file given with -f."""
    trace = project.folder / "through"
    relay = project.folder / "relay.py"
    relay.write_text(RELAY)
    command = f"{sys.executable} {relay} {trace} 127.0.0.1 {project.server.port}"
    (project.folder / "fab.json").write_text(json.dumps({"gateway": command}))
    done = project.fab("-f", str(project.folder / "fab.json"), "deploy", "--json")
    assert trace.exists()
    assert done.host["release"] == project.live


RELAY = """
import os, select, socket, sys
open(sys.argv[1], "w").close()
there = socket.create_connection((sys.argv[2], int(sys.argv[3])))
while True:
    for ready in select.select([0, there], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else there.recv(65536)
        if not data:
            sys.exit()
        there.sendall(data) if ready == 0 else os.write(1, data)
"""


# -- both sides give the same answers ------------------------------------------------------------------------

NAMES = [
    "plain", "with space", " lead", "trail ", "-dash", "$(touch x)", "`x`", "a'b", 'a"b', "a\\b", "tab\there",
    "new\nline", "trailing\n", "ünïcode", "*", "?[a]", "#hash", "~", "{a,b}", ".hidden",
]  # fmt: skip


@pytest.fixture(scope="module")
def both(
    sshd: Sshd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SftpFiles, ShellFiles, Path]]:
    root = sshd.new_dir("odd-")
    for name in NAMES:
        (root / name).mkdir()
        (root / name / name).write_text(f"<{name}>\n")
        (root / name / "link").symlink_to(name)
        (root / name / "dangling").symlink_to(f"nowhere {name}")
        (root / name / "to dir").symlink_to(f"../{name}")
    (root / "empty").mkdir()
    (root / "bytes").write_bytes(bytes(range(256)) + b"\n\n")
    (root / "bytes").chmod(0o640)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    for path in [root, *root.rglob("*")]:
        sshd.give(path)
    project = Project(tmp_path_factory.mktemp("both") / "project", sshd, root)
    host = host_of(project, sshd.port)
    assert isinstance(host.files.side, SftpFiles)
    yield host.files.sftp, host.files.over_ssh, root
    host.close()
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("name", [*NAMES, "empty", "bytes", "loop", "pipe", "missing", "bytes/below"])
def test_sftp_and_shell_see_the_same(both: tuple[SftpFiles, ShellFiles, Path], name: str) -> None:
    sftp, shell, root = both
    top = f"{root}/{name}"
    paths = [top]
    if name in NAMES:
        paths += [f"{top}/{below}" for below in (name, "link", "dangling", "to dir", "to dir/link", "none")]
    for path in paths:
        assert sftp.lstat(path) == shell.lstat(path), path
        assert sftp.readlink(path) == shell.readlink(path), path
        assert sftp.realpath(path) == shell.realpath(path), path
        assert sftp.listing(path) == shell.listing(path), path
        if Path(path).is_file() or not os.path.lexists(path):
            assert sftp.read(path) == shell.read(path), path


def test_what_both_see_is_right(both: tuple[SftpFiles, ShellFiles, Path]) -> None:
    for files in both[:2]:
        root = both[2]
        assert files.listing(str(root)) == sorted([*NAMES, "empty", "bytes", "loop", "pipe"])
        assert files.listing(f"{root}/empty") == [] and files.listing(f"{root}/missing") is None
        assert files.read(f"{root}/bytes") == bytes(range(256)) + b"\n\n"
        assert files.readlink(f"{root}/a'b/dangling") == "nowhere a'b"
        assert files.realpath(f"{root}/a'b/link") == f"{root}/a'b/a'b"
        assert files.realpath(f"{root}/a'b/dangling") is None
        seen = files.lstat(f"{root}/bytes")
        assert seen is not None and (seen.kind, seen.mode, seen.size) == ("file", 0o640, 258)
        assert [getattr(files.lstat(f"{root}/{n}"), "kind", None) for n in ("empty", "loop", "pipe")] == [
            "dir", "link", "other",
        ]  # fmt: skip


def test_both_know_the_room(both: tuple[SftpFiles, ShellFiles, Path]) -> None:
    sftp, shell, root = both
    ours, theirs = sftp.space(str(root)), shell.space(str(root))
    assert abs(ours.free - theirs.free) < 256 << 20  # other tests write meanwhile
    assert (ours.free_inodes is None) == (theirs.free_inodes is None)
