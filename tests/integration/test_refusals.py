"""Everything that can be wrong: the exit code, the words that help, and that what is live stays live."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fab import Done
from tests.support.project import Project, ProjectOn, snapshot, untouched
from tests.support.proxy import Proxy
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd
from tests.support.waiting import Barrier, eventually
from tests.support.web import HealthPage

pytestmark = pytest.mark.timeout(120)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# -- before anything is contacted ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "args", "words"),
    [
        (
            {"strategie": "cache", "keep_releases": "many", "copy": "magic"},
            [],
            ["3 mistakes", "config.yaml:", "strategie", "did you mean 'strategy'", "keep_releases", "magic"],
        ),
        ({}, ["--strategy", "magic"], ["magic", "cache or previous"]),
        ({}, ["--env", "stagin"], ["stagin"]),
        ({"environments": {"staging": {}}}, ["--env", "stagin"], ["stagin", "staging"]),
        ({}, ["--config", "missing.yaml"], ["missing.yaml does not exist", "--config"]),
        ({"source": None}, [], ["This needs source", "--source DIR"]),
        ({"deploy_to": None}, [], ["This needs deploy_to", "--deploy-to PATH"]),
    ],
    ids=[
        "mistakes",
        "flag",
        "no environments",
        "unknown environment",
        "no file",
        "no source",
        "no deploy_to",
    ],
)
def test_a_wrong_configuration(
    project: Project, keys: dict[str, object], args: list[str], words: list[str]
) -> None:
    project.deployed()
    project.configure(**keys)
    with untouched(project), Proxy(project.server.port) as network:
        done = project.fab("deploy", *args, hosts=project.address(network.port), code=2)
        assert network.connections == 0
    done.says("✗ ", "why:", "try:", "exit code 2", *words)


def test_no_host_named(project: Project) -> None:
    project.fab("deploy", hosts="", code=2).says("No host is named", "-H user@host", "hosts")


def test_a_host_named_twice(project: Project) -> None:
    project.fab("deploy", hosts=f"{project.address()},{project.address()}", code=2).says("named twice")


@pytest.mark.promise("leads-out")
def test_a_source_that_is_not_there_or_leads_out(project: Project) -> None:
    project.deployed()
    (project.build / "way-out").symlink_to("/etc/passwd")
    with untouched(project), Proxy(project.server.port) as network:
        address = project.address(network.port)
        project.fab("deploy", hosts=address, code=1).says("'way-out' -> '/etc/passwd'", "absolute", "exclude")
        project.configure(source={"path": "./dist"})
        project.fab("deploy", hosts=address, code=1).says("dist", "does not exist", "local_build")


def test_a_local_build_that_fails(project: Project) -> None:
    project.deployed()
    project.configure(hooks={"local_build": ["echo compiling; exit 3", "touch never"]})
    with untouched(project), Proxy(project.server.port) as network:
        done = project.fab("deploy", hosts=project.address(network.port), code=1)
        assert network.connections == 0
    done.says("exit 3`", "exit status 3", "compiling", "Nothing was contacted")
    assert not (project.folder / "never").exists()


# -- the place on the host -------------------------------------------------------------------------------


def test_a_deploy_to_that_can_not_be_written(project: Project) -> None:
    project.deploy_to.chmod(0o555)
    try:
        done = project.fab("deploy", code=1)
    finally:
        project.deploy_to.chmod(0o755)
    done.says(f"{project.deploy_to} can't be written to", "Permission denied", "chown")
    assert list(project.deploy_to.iterdir()) == []


def test_a_current_that_can_not_be_replaced(project: Project) -> None:
    """All is prepared, and then the rename is refused: nothing differs anywhere, so that is an exit of 1."""
    project.deployed()
    released = project.released
    with untouched(project):
        project.deploy_to.chmod(0o555)
        try:
            done = project.fab("deploy", code=1)
        finally:
            project.deploy_to.chmod(0o755)
    done.says("Switching failed", "Permission denied", "current")
    assert project.released == released and project.is_tidy()


def test_a_parent_that_is_missing_and_can_not_be_made(project: Project) -> None:
    project.deploy_to.chmod(0o555)
    there = project.deploy_to / "no/such/site"
    project.configure(deploy_to=str(there))
    try:
        done = project.fab("deploy", code=1)
    finally:
        project.deploy_to.chmod(0o755)
    done.says(f"{there} can't be written to", "Permission denied", f"mkdir -p {there}")


@pytest.mark.parametrize("kind", ["dir", "file"])
def test_a_current_that_is_no_link(project: Project, kind: str) -> None:
    if kind == "dir":
        project.current.mkdir()
        (project.current / "index.html").write_text("the old site\n")
    else:
        project.current.write_text("a note\n")
    before = snapshot(project.current)
    done = project.fab("deploy", code=1)
    done.says("is a real " + ("directory" if kind == "dir" else "file"), f"mv {project.current} ", "before")
    assert snapshot(project.current) == before
    assert project.is_tidy() and project.released == []


@contextlib.contextmanager
def small_disk(project: Project, size: str) -> Iterator[None]:
    """deploy_to is a tmpfs of that size; grow() gives it more."""
    owner = project.deploy_to.stat()
    options = f"size={size},mode=755,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", project.deploy_to], check=True, timeout=10
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", project.deploy_to], check=True, timeout=10)


def grow(project: Project, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", project.deploy_to], check=True, timeout=10)


def free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@pytest.mark.root
@needs_root
def test_a_disk_that_is_too_small_is_seen_beforehand(project: Project) -> None:
    with small_disk(project, "20m"):
        project.deployed()
        project.write({"big": "x" * (9 << 20)})
        before = free(project.deploy_to)
        with untouched(project):
            done = project.fab("deploy", code=1)
        done.says("There is not enough room", "are free", "in reserve", "keep_releases")
        assert not (project.deploy_to / "cache/big").exists()
        assert project.is_tidy() and before - free(project.deploy_to) < 100_000


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(("files", "where"), [(3000, "copy"), (6000, "upload")])
def test_a_disk_that_fills_up_in_the_middle(project: Project, files: int, where: str) -> None:
    """A file of one byte takes a page, so what the check before thought to fit does not."""
    with small_disk(project, "18m"):
        project.deployed()
        before, released = free(project.deploy_to), project.released
        project.write({f"many/{n // 100}/{n}": "." for n in range(files)})
        with untouched(project):
            done = project.fab("deploy", code=1)
        done.says("No space left on device", f"✗ {where}", "failed, what was live stays live everywhere")
        # The release and the upload are gone; what has reached the cache may stay, for the next attempt.
        assert project.released == released and project.is_tidy()
        cached = files * 4096 if where == "copy" else 0
        assert before - free(project.deploy_to) - cached < 1 << 20
        # With more room, the same command does it.
        grow(project, "96m")
        done = project.fab("deploy", "--json")
        assert project.live == done.host["release"] not in released
        assert done.host["files_uploaded"] == (0 if where == "copy" else files)


# -- one at a time ---------------------------------------------------------------------------------------


def test_two_deployments_at_once(project: Project, barrier: Barrier) -> None:
    project.deployed()
    project.write({"index.html": "two\n"})
    project.configure(hooks={"before_switch": [barrier.hook]})
    with project.start("deploy") as first:
        barrier.wait()
        with untouched(project):
            second = project.fab("deploy", "--json", code=5)
            machine = socket.gethostname()
            second.says("is locked by another deployment", f"@{machine}", f"pid {first.process.pid}")
            second.says("fab deploy", "unlock --force")
            assert second.json["exit_code"] == 5 and second.host["ok"] is False
            project.fab("rollback", code=5)
            # Whoever came second left, and the first one's lock is still there.
            assert project.locked()
        barrier.open()
        first.finish()
    assert (project.current / "index.html").read_text() == "two\n"
    assert project.is_tidy()


def test_a_broken_lock_stops_its_owner_before_the_switch(project: Project, barrier: Barrier) -> None:
    project.deployed()
    other = Barrier(project.server.new_dir("barrier-"))
    project.configure(hooks={"before_switch": [barrier.hook]})
    with project.start("deploy", "--json") as robbed:
        barrier.wait()
        project.fab("unlock", "--force").says("the lock is broken now")
        project.configure(hooks={"before_switch": [other.hook]})
        project.write({"index.html": "two\n"})
        with project.start("deploy") as robber:
            other.wait()
            with untouched(project):
                barrier.open()
                done = robbed.finish(code=1)
                assert "The lock on 127.0.0.1 was broken" in done.json["error"]["what"]
                assert "unlock --force" in done.json["error"]["why"]
                # The loser has not removed the winner's lock.
                assert project.locked()
            other.open()
            robber.finish()
    assert (project.current / "index.html").read_text() == "two\n"
    assert project.is_tidy()


def test_breaking_a_lock_that_nobody_holds(project: Project) -> None:
    project.deployed()
    with untouched(project):
        assert "127.0.0.1: not locked" in project.fab("unlock", "--force").stdout


# -- hooks and health ------------------------------------------------------------------------------------


def after_failure(project: Project) -> tuple[str, Path]:
    """A hook that leaves a trace, and the trace."""
    trace = project.server.new_dir("trace-") / "ran"
    return f'echo "$SWITCHOVER_RELEASE" > {trace}', trace


def test_a_before_switch_hook_that_fails(project: Project) -> None:
    first = project.deployed()
    hook, trace = after_failure(project)
    project.configure(
        hooks={"before_switch": ["echo migrating; exit 7", "touch never"], "after_failure": [hook]}
    )
    with untouched(project):
        done = project.fab("deploy", "--json", code=1)
    done.says("before_switch hook `echo migrating; exit 7` failed", "exit status 7", "migrating", "by hand")
    failed = done.host["release"]
    assert project.released == [first] and project.is_tidy()
    assert project.states() == {first: "live", failed: "failed"}
    assert trace.read_text().strip() == failed


def test_an_after_switch_hook_that_fails(project: Project) -> None:
    first = project.deployed()
    hook, trace = after_failure(project)
    project.configure(
        hooks={"after_switch": ["echo reloading >&2; exit 8"], "after_failure": [hook, "exit 1"]}
    )
    done = project.fab("deploy", "--json", code=3)
    done.says("after_switch hook", "exit status 8", "reloading", "switched back everywhere")
    assert project.live == first
    assert project.states() == {first: "live", done.host["release"]: "bad"}
    assert trace.read_text().strip() == done.host["release"]
    assert project.is_tidy()
    # It is not offered for a rollback, and the next deployment is not held up by it.
    project.fab("rollback", "--to", done.host["release"], code=1).says("its state is bad")
    project.configure()
    project.deployed()


def test_a_rollback_whose_hook_fails_goes_back_to_where_it_was(project: Project) -> None:
    first = project.deployed()
    second = project.deployed()
    project.configure(hooks={"after_switch": [f"test $SWITCHOVER_RELEASE = {second}"]})
    project.fab("rollback", code=3).says("after_switch hook", "switched back everywhere")
    assert project.live == second
    assert project.states() == {first: "good", second: "live"} and project.is_tidy()


def test_a_health_check_that_fails(project: Project) -> None:
    first = project.deployed()
    with HealthPage(503) as site:
        project.configure(health={"url": site.url, "timeout": 1})
        done = project.fab("deploy", "--json", code=3)
        assert site.asked >= 1
    done.says("is not healthy", "expected status 200 within 1 s, last: 503", "--skip-health")
    assert project.live == first
    assert project.states() == {first: "live", done.host["release"]: "bad"}
    assert project.is_tidy()


def test_a_health_check_that_fails_on_the_first_deployment(project: Project) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/healthz"
        project.configure(health={"url": url, "timeout": 1})
        done = project.fab("deploy", "--json", code=3)
    done.says(f"{url} is not healthy")
    assert not os.path.lexists(project.current)
    assert project.states() == {done.host["release"]: "bad"}
    assert project.fab("releases", "--json").json["hosts"][0]["current"] is None


# -- the way to the host ---------------------------------------------------------------------------------


def quick(**ssh: object) -> dict[str, object]:
    """Connection settings under which a test of a refusal is soon over."""
    return {"connect_timeout": 1, "reconnect": {"attempts": 1, "window": 1}, **ssh}


def test_a_port_that_nobody_listens_on(project: Project) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = project.fab("deploy", hosts=project.address(port), code=1)
    done.says(f"No connection to {project.address(port)}", "Connection refused", "sshd running")


def test_a_name_that_does_not_resolve(project: Project) -> None:
    done = project.fab("deploy", hosts="deploy@no-such-host.invalid", code=1)
    done.says("no-such-host.invalid does not resolve", "spelling")


@contextlib.contextmanager
def listener(greeting: bytes, close: bool = False) -> Iterator[int]:
    """A port that takes connections, says `greeting`, and then nothing, or ends them."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(greeting)
                    taken.append(connection)
                    if close:
                        connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for connection in taken:
        connection.close()


def test_a_port_that_takes_the_connection_and_says_nothing(project: Project) -> None:
    project.configure(ssh=quick())
    with listener(b"") as port:
        done = project.fab("deploy", "--json", hosts=project.address(port), code=1)
    done.says(f"No connection to {project.address(port)}", "no answer within 1 s", "connect_timeout")
    assert done.host["phases"]["connect"] < 5  # far from any default


def test_a_port_where_something_else_answers(project: Project) -> None:
    project.configure(ssh=quick())
    with listener(b"HTTP/1.0 400 Bad Request\r\n\r\n", close=True) as port:
        done = project.fab("deploy", hosts=project.address(port), code=1)
    done.says(f"No connection to {project.address(port)}", "400 Bad Request", "belongs to something else")


@pytest.mark.promise("refused")
def test_a_wrong_key_is_refused_once(project: Project) -> None:
    project.deployed()
    wrong = project.folder / "wrong"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True, timeout=20, stdin=-3
    )
    with untouched(project), Proxy(project.server.port) as network:
        hosts = f"{project.server.user}@127.0.0.1:{network.port}"
        entry = {"host": "127.0.0.1", "port": network.port, "user": project.server.user}
        project.configure(hosts=[{**entry, "identity": str(wrong)}])
        done = run_without_identity(project, "deploy", code=1)
        assert network.connections == 1  # a login that was refused is not tried again
    done.says(f"{hosts} refused the login", str(wrong), "authorized_keys", "-i FILE")


def run_without_identity(project: Project, *args: str, code: int) -> Done:
    from tests.support.fab import Running

    return Running(["-S", str(project.ssh_config), *args], project.folder, project.environment).finish(code)


@pytest.mark.promise("host-keys")
def test_a_changed_host_key(project_on: ProjectOn) -> None:
    project = project_on()
    server = project.server
    project.deployed()
    name = f"[127.0.0.1]:{server.port}"
    known = project.known_hosts.read_text()
    assert known.startswith(f"{name} ssh-ed25519 ")  # accept-new has written it down
    assert stat.S_IMODE(project.known_hosts.stat().st_mode) & 0o022 == 0
    old = server.fingerprint
    server.rekey()
    with untouched(project):
        done = project.fab("deploy", code=1)
    done.says(f"The host key of {name} has changed", old, server.fingerprint)
    advice = f"ssh-keygen -f {project.known_hosts} -R '{name}'"
    done.says(advice)
    assert project.known_hosts.read_text() == known
    # host_keys: off takes any key, and remembers none.
    project.configure(ssh={"host_keys": "off"})
    project.fab("releases")
    assert project.known_hosts.read_text() == known
    # What the message says to type helps.
    project.configure()
    subprocess.run(shlex.split(advice), check=True, capture_output=True, timeout=20)
    project.fab("deploy")
    assert project.known_hosts.read_text() != known


@pytest.mark.promise("host-keys")
def test_strict_host_keys(project: Project) -> None:
    project.deployed()
    project.known_hosts.unlink()
    project.configure(ssh={"host_keys": "strict"})
    with untouched(project):
        done = project.fab("deploy", code=1)
    done.says("is not known", project.server.fingerprint, "strict", "accept-new")
    assert not project.known_hosts.exists()
    project.configure(ssh={"host_keys": "strict", "known_hosts": str(project.server.known_hosts)})
    project.fab("deploy")


# -- SFTP ------------------------------------------------------------------------------------------------


def test_a_host_without_sftp(project_on: ProjectOn) -> None:
    project = project_on(sftp=None)
    done = project.fab("deploy")
    done.says("checks go over SSH, because SFTP can't be used", "The host offers no SFTP")
    assert project.live
    with untouched(project):
        project.configure(ssh={"sftp": "require"})
        done = project.fab("deploy", code=1)
        done.says("ssh.sftp is `require`", "sftp subsystem", "ssh.sftp: auto")
        assert project.is_tidy()


def test_sftp_off_opens_no_sftp(project: Project) -> None:
    subsystem = "subsystem 'sftp'"
    before = len(project.server.log())
    project.fab("deploy")
    assert subsystem in project.server.log()[before:]
    before = len(project.server.log())
    project.configure(ssh={"sftp": "off"})
    project.fab("deploy").says("checks over SSH, as ssh.sftp: off says")
    assert subsystem not in project.server.log()[before:]


SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
needs_sftp_server = pytest.mark.skipif(not SFTP_SERVER.exists(), reason=f"needs {SFTP_SERVER}")


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.root
@needs_root
@needs_sftp_server
def test_sftp_that_sees_another_tree(tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    site.mkdir()
    elsewhere.mkdir()
    inner = f"mount --bind {elsewhere} {site} && exec {SFTP_SERVER}"
    wrapper = program(tmp_path / "sftp", f"exec unshare -m --propagation private sh -c '{inner}'")
    # HOME: whatever root's own .bashrc does on this machine is not to be waited for.
    with Sshd(user="root", sftp=str(wrapper), extra=f"SetEnv HOME={tmp_path}") as server:
        project = Project(tmp_path / "own", server, site)
        done = project.fab("deploy")
        done.says("checks go over SSH, because SFTP can't be used", "SFTP does not see", "just written")
        assert project.live and list(elsewhere.iterdir()) == []
        project.configure(ssh={"sftp": "require"})
        with untouched(project):
            project.fab("deploy", code=1).says("ssh.sftp is `require`", "SFTP does not see")
            assert project.is_tidy()


@pytest.mark.root
@needs_root
@needs_sftp_server
@pytest.mark.parametrize("told", [False, True], ids=["found out", "told"])
def test_sftp_in_a_chroot(tmp_path: Path, told: bool) -> None:
    """Where only a prefix differs, SFTP is used all the same."""
    root = tmp_path / "jail"
    furnish(root)
    wrapper = program(tmp_path / "sftp", f"exec chroot {root} {SFTP_SERVER}")
    # HOME: whatever root's own .bashrc does on this machine is not to be waited for.
    with Sshd(user="root", sftp=str(wrapper), extra=f"SetEnv HOME={tmp_path}") as server:
        project = Project(tmp_path / "own", server, root / "srv/site")
        project.configure(ssh={"sftp": "require", **({"sftp_root": str(root)} if told else {})})
        done = project.fab("deploy")
        done.says("shell and SFTP agree" + ("" if told else f"; SFTP's / is {root}"))
        if told:
            project.fab("deploy", "--transfer", "sftp", "--from-scratch")
        assert (project.current / "index.html").read_text() == "one\n"


def furnish(root: Path) -> None:
    """What sftp-server needs to run in a chroot."""
    linked = subprocess.run(["ldd", SFTP_SERVER], capture_output=True, text=True, check=True, timeout=10)
    needed = [word for word in linked.stdout.split() if word.startswith("/")]
    for path in ["/etc/passwd", str(SFTP_SERVER), *needed]:
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.lstrip("/"))
    (root / "dev").mkdir()
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


# -- the shell -------------------------------------------------------------------------------------------


def test_a_noisy_bashrc(project_on: ProjectOn, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    trace = home / "trace"
    trace.touch()
    trace.chmod(0o666)
    (home / ".bashrc").write_text(
        f"echo 'Welcome! 20260101000000 taken 1'; echo >&2 oops; echo . >> {trace}\n"
    )
    project = project_on(extra=f"SetEnv HOME={home}")
    open_to_all(home)
    done = project.fab("deploy", "--json")
    if not trace.read_text():
        unavailable("the account's shell reads no .bashrc for commands")
    assert project.live == done.host["release"]
    assert project.states() == {project.live: "live"} and project.is_tidy()
    with untouched(project):
        project.fab("rollback", code=1).says("There is no good release")


def open_to_all(folder: Path) -> None:
    """Let the login account reach what pytest keeps for its own user."""
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)


@pytest.mark.parametrize("command", ["internal-sftp", "echo This account is for backups"])
def test_an_account_without_a_shell(project_on: ProjectOn, command: str) -> None:
    project = project_on(extra=f"ForceCommand {command}")
    project.configure(ssh=quick(), environments={})
    done = project.fab("deploy", code=1)
    done.says("ran something else than the command it was given", "it needs a shell")
    assert list(project.deploy_to.iterdir()) == []


def test_a_hook_is_not_left_waiting_by_a_barrier_of_ours(barrier: Barrier) -> None:
    """The barrier itself: it blocks until it is opened."""
    process = subprocess.Popen(["sh", "-c", barrier.hook])
    try:
        eventually(barrier.reached.exists, "the hook runs", 5)
        assert process.poll() is None
        barrier.open()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait(5)
