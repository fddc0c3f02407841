"""More ways in by ssh and by us in the same run: agents, certificates, second factors, jump hosts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import fabric
import pytest

from fabfile.errors import AuthenticationFailed, SwitchoverError
from tests.hosts.test_ways_in import Way, connected, keygen
from tests.support.accounts import account
from tests.support.skipping import unavailable
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("clean_environment", "sshd_installed")]

SECRET = "correct horse battery"
ALL = bool(os.environ.get("SWITCHOVER_ALL_WAYS"))  # else CI takes every second one


class Wider(Way):
    """A Way with lines for all hosts, jump hosts too, and an environment."""

    def __init__(self, folder: Path, server: Sshd) -> None:
        super().__init__(folder, server)
        self.common: list[str] = []
        self.first: list[str] = []  # lines before all others
        self.environment: dict[str, str] = {}
        self.arguments: list[str] = []  # of ssh
        self.identity: str | None = None  # -i
        self.password = ""  # what --prompt-for-login-password was answered with

    def config(self, checking: str) -> Path:
        path = super().config(checking)
        first = "\n".join(self.first)
        path.write_text(f"{first}\n{path.read_text()}" + "".join(f"  {line}\n" for line in self.common))
        return path

    def by_ssh(self, checking: str) -> bool:
        asking = "no" if "SSH_ASKPASS" in self.environment else "yes"
        command = ["ssh", "-F", str(self.config(checking)), "-o", f"BatchMode={asking}"]
        command += ["-o", "NumberOfPasswordPrompts=1", *self.arguments, "way", "true"]
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
        )
        return done.returncode == 0

    def by_us(self, checking: str) -> SwitchoverError | None:
        prompted = {"connect_kwargs": {"password": self.password}} if self.password else {}
        config = fabric.Config(runtime_ssh_path=str(self.config(checking)), overrides=prompted)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return connected(config, self.identity)


Prepare = Callable[[Wider], None]


def compare(folder: Path, server: Sshd, prepare: Prepare, *, gets_in: bool) -> SwitchoverError | None:
    """What we were told, where both do as expected."""
    found = {}
    for who in ("ssh", "us"):
        (folder / who).mkdir()
        way = Wider(folder / who, server)
        prepare(way)
        found[who] = way.by_ssh("yes") if who == "ssh" else way.by_us("yes")
    told = found["us"]
    assert found["ssh"] is gets_in, "ssh itself does otherwise"
    assert not isinstance(told, bool)
    assert (told is None) is gets_in, told and (told.what, told.why)
    return told


def half(ways: dict[str, tuple[Prepare, bool]]) -> list[object]:
    """The ways as parameters: name, how, whether one gets in."""
    return [pytest.param(*how, id=name) for n, (name, how) in enumerate(ways.items()) if ALL or n % 2 == 0]


# -- agents ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, sshd: Sshd) -> Iterator[Path]:
    """An agent that holds the client's key; its socket."""
    place = tmp_path_factory.mktemp("agent") / "s"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    try:
        while not place.exists():
            assert process.poll() is None
        added = ["ssh-add", "-q", str(sshd.identity)]
        subprocess.run(added, env={**os.environ, "SSH_AUTH_SOCK": str(place)}, check=True, timeout=30)
        yield place
    finally:
        process.kill()
        process.wait()


def agents(*lines: str, variable: str = "SSH_AUTH_SOCK") -> Prepare:
    """{agent}, {key} and {other} stand for the agent's socket, the client's key and another one."""

    def prepare(way: Wider) -> None:
        values = {
            "agent": os.environ["TEST_AGENT"],
            "key": way.server.identity,
            "other": way.folder / "other",
        }
        way.lines[:] = [line.format(**values) for line in lines]
        way.environment["SSH_AUTH_SOCK"] = ""
        if variable:
            way.environment[variable] = str(values["agent"])

    return prepare


AGENTS: dict[str, tuple[Prepare, bool]] = {
    "the agent's key": (agents(), True),
    "only a key that it has not": (agents("IdentitiesOnly yes", "IdentityFile {other}"), False),
    "a .pub whose key it has": (agents("IdentitiesOnly yes", "IdentityFile {key}.pub"), True),
    "IdentityAgent": (agents("IdentityAgent {agent}", variable=""), True),
    "IdentityAgent none": (agents("IdentityAgent none"), False),
    "IdentityAgent $VARIABLE": (agents("IdentityAgent $MY_AGENT", variable="MY_AGENT"), True),
    "no agent there": (agents("IdentityAgent /nowhere", variable=""), False),
    "IdentityAgent none, and a .pub": (agents("IdentityAgent none", "IdentityFile {key}.pub"), False),
    "IdentityAgent SSH_AUTH_SOCK": (agents("IdentityAgent SSH_AUTH_SOCK"), True),
    "another file, and the agent": (agents("IdentityFile {other}"), True),
}


@pytest.mark.parametrize(("prepare", "gets_in"), half(AGENTS))
def test_agents(
    tmp_path: Path, sshd: Sshd, agent: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare, gets_in: bool
) -> None:
    monkeypatch.setenv("TEST_AGENT", str(agent))
    compare(tmp_path, sshd, prepare, gets_in=gets_in)


def test_a_wrong_i_is_told_as_that(tmp_path: Path, sshd: Sshd) -> None:
    """-i FILE that is not there, and no other key: it is the file's fault, not the server's."""

    def prepare(way: Wider) -> None:
        way.lines[:] = ["IdentityAgent none"]
        way.arguments = ["-i", "/nowhere/id"]
        way.identity = "/nowhere/id"

    told = compare(tmp_path, sshd, prepare, gets_in=False)
    assert told is not None and "/nowhere/id" in told.what


# -- certificates ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of an authority."""
    made = tmp_path_factory.mktemp("authority") / "ca"
    made.parent.chmod(0o755)
    keygen("-t", "ed25519", "-N", "", "-f", str(made))
    return made


@pytest.fixture(scope="module")
def certified(clean_environment: None, sshd_installed: None, authority: Path) -> Iterator[Sshd]:
    """A server that takes whom the authority has signed for, and has a certificate of it itself."""
    with Sshd(extra=f"TrustedUserCAKeys {authority}.pub") as server:
        (server.folder / "authorized_keys").write_text("")
        key = server.folder / "host_ed25519.pub"
        keygen("-s", str(authority), "-I", "host", "-h", "-n", "127.0.0.1", "-V", "+1h", str(key))
        server.change(f"HostCertificate {server.folder / 'host_ed25519-cert.pub'}")
        yield server


def signed(*how: str, by_file: bool = True, known: str = "@cert-authority * {ca}\n") -> Prepare:
    """A key with a certificate, as ssh-keygen makes it with these words; known: what known_hosts says."""

    def prepare(way: Wider) -> None:
        authority = Path(os.environ["TEST_AUTHORITY"])
        key, user = way.folder / "mine", way.server.user
        keygen("-t", "ed25519", "-N", "", "-f", str(key))
        words = [word.format(user=user) for word in how or ("-n", "{user}", "-V", "+1h")]
        keygen("-s", str(authority), "-I", "me", *words, f"{key}.pub")
        way.lines[:] = [f"IdentityFile {key}", "IdentitiesOnly yes", "IdentityAgent none"]
        if by_file:
            (way.folder / "mine-cert.pub").rename(way.folder / "elsewhere")
            way.lines.append(f"CertificateFile {way.folder}/elsewhere")
        ca = " ".join(Path(f"{authority}.pub").read_text().split()[:2])
        way.knows(known.format(ca=ca, other=way.other, key=way.host_key))

    return prepare


CERTIFICATES: dict[str, tuple[Prepare, bool]] = {
    "CertificateFile": (signed(), True),
    "beside the key": (signed(by_file=False), True),
    "expired": (signed("-n", "{user}", "-V", "-2h:-1h"), False),
    "for somebody else": (signed("-n", "somebody", "-V", "+1h"), False),
    "the host's, of another authority": (signed(known="@cert-authority * {other}\n"), False),
    "the host's, for other hosts": (signed(known="@cert-authority 10.* {ca}\n"), False),
    "the host's authority revoked": (signed(known="@cert-authority * {ca}\n@revoked * {ca}\n"), False),
    "the host's key itself": (signed(known="* {key}\n"), True),
}


@pytest.mark.parametrize(("prepare", "gets_in"), half(CERTIFICATES))
def test_certificates(
    tmp_path: Path,
    certified: Sshd,
    authority: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Prepare,
    gets_in: bool,
) -> None:
    monkeypatch.setenv("TEST_AUTHORITY", str(authority))
    compare(tmp_path, certified, prepare, gets_in=gets_in)


# -- a second factor -------------------------------------------------------------------------------------

FACTORS = {
    "publickey,password": "UsePAM no\nPasswordAuthentication yes",
    "publickey,keyboard-interactive": "UsePAM yes\nKbdInteractiveAuthentication yes",
}


@contextlib.contextmanager
def two_factors(methods: str) -> Iterator[Sshd]:
    """A server whose account has a key and a password, and needs both."""
    if os.geteuid() != 0:
        unavailable("an account with a password needs root")
    with account() as user:
        subprocess.run(["chpasswd"], input=f"{user}:{SECRET}\n", text=True, check=True, timeout=30)
        with Sshd(user=user, extra=f"AuthenticationMethods {methods}\n{FACTORS[methods]}") as server:
            yield server


def answering(word: str | None) -> Prepare:
    def prepare(way: Wider) -> None:
        if word is None:
            return
        script = way.folder / "askpass"
        script.write_text(f"#!/bin/sh\necho '{word}'\n")
        script.chmod(0o755)
        way.environment = {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
        way.password = word

    return prepare


@pytest.mark.parametrize("methods", FACTORS)
def test_a_second_factor(tmp_path: Path, methods: str) -> None:
    """With the right answer both get in; else neither, and we say what is wanted."""
    with two_factors(methods) as server:
        for name, word, gets_in in (("right", SECRET, True), ("wrong", "no", False), ("none", None, False)):
            (tmp_path / name).mkdir()
            told = compare(tmp_path / name, server, answering(word), gets_in=gets_in)
            if not gets_in:
                assert isinstance(told, AuthenticationFailed)
                assert told.partial and methods.split(",")[1] in told.methods
            if word is None:
                assert told and "--prompt-for-login-password" in told.hint


# -- jump hosts ------------------------------------------------------------------------------------------


def jumps(*lines: str, common: tuple[str, ...] = (), first: tuple[str, ...] = ()) -> Prepare:
    """{user} and {port} stand for the server's, which is its own jump host."""

    def prepare(way: Wider) -> None:
        values = {"user": way.server.user, "port": way.server.port, "key": way.server.identity}
        way.lines[:] = [line.format(**values) for line in lines]
        way.common = [f"IdentityFile {way.server.identity}", "IdentitiesOnly yes"]
        way.common += [line.format(**values) for line in common]
        way.first = [line.format(**values) for line in first]
        port = way.server.port
        way.knows(f"[127.0.0.1]:{port},[127.0.0.2]:{port},[::1]:{port} {way.host_key}\n")

    return prepare


NETCAT = "ssh -F /dev/null -i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
JUMPS: dict[str, tuple[Prepare, bool]] = {
    "user@address:port": (jumps("ProxyJump {user}@127.0.0.2:{port}"), True),
    "IPv6 in brackets": (jumps("ProxyJump {user}@[::1]:{port}"), True),
    "two hops": (jumps("ProxyJump {user}@127.0.0.2:{port},{user}@[::1]:{port}"), True),
    "a URI": (jumps("ProxyJump ssh://{user}@127.0.0.2:{port}"), True),
    "itself": (jumps("ProxyJump {user}@127.0.0.1:{port}"), False),
    "none": (jumps("ProxyJump none", common=("ProxyJump nowhere.invalid",)), True),
    "a hop that refuses": (jumps("ProxyJump {user}@127.0.0.1:1"), False),
    "a name of ssh_config": (
        jumps("ProxyJump hop", first=("Host hop", "  HostName 127.0.0.2", "  Port {port}", "  User {user}")),
        True,
    ),
    "Match by user": (
        jumps(first=("Match originalhost way user {user}", "  ProxyJump {user}@127.0.0.2:{port}")),
        True,
    ),
    "Match exec": (jumps(first=('Match originalhost way exec "false"', "  ProxyJump nowhere.invalid")), True),
    "ProxyCommand with tokens": (
        jumps(f"ProxyCommand {NETCAT} -p %p -W %h:%p %r@%h"),
        True,
    ),
    "ProxyCommand none": (jumps("ProxyCommand none", common=("ProxyCommand exit 3",)), True),
}


@pytest.fixture(scope="module")
def jump_host(clean_environment: None, sshd_installed: None) -> Iterator[Sshd]:
    """A server with three addresses that lets itself be jumped through."""
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            unavailable("this machine has no IPv6")
    with Sshd(extra="ListenAddress ::1\nListenAddress 127.0.0.2\nAllowTcpForwarding yes") as server:
        yield server


@pytest.mark.parametrize(("prepare", "gets_in"), half(JUMPS))
def test_jump_hosts(tmp_path: Path, jump_host: Sshd, prepare: Prepare, gets_in: bool) -> None:
    compare(tmp_path, jump_host, prepare, gets_in=gets_in)
