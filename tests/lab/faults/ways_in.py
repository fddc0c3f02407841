"""Logging in: keys, accounts, second factors, jump hosts, ProxyCommands."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.lab.faults.declared import fault, faults, sshd
from tests.support import network, servers
from tests.support.accounts import account
from tests.support.examined import ExaminedHost
from tests.support.relay import Cut, relay
from tests.support.sshd import Sshd


@fault("key-file", mends=False)
def a_key_that_is_not_there() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, identity=server.folder / "id_gone")


@fault("key-file", mends=False)
def the_public_half_of_a_key() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, identity=server.identity.with_suffix(".pub"))


@fault("key-file", mends=False)
def a_key_with_a_passphrase() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        network.run("ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(server.identity))
        yield ExaminedHost(server)


@fault("second-factor")
def a_password_wanted_besides() -> Iterator[ExaminedHost]:
    yield from sshd("PasswordAuthentication yes\nAuthenticationMethods publickey,password")


@fault("proxy-command", mends=False)
def a_proxy_command_that_is_not_there() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        (place.folder / "ssh_config").write_text("Host *\n  ProxyCommand /no/such/program %h %p\n")
        yield place


@fault("proxy-command", mends=False)
def a_proxy_command_that_fails() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        (place.folder / "ssh_config").write_text("Host *\n  ProxyCommand sh -c 'echo no >&2; exit 3'\n")
        yield place


@contextlib.contextmanager
def jumping(jump: Sshd, server: Sshd, *, host: str = "", port: int = 0) -> Iterator[ExaminedHost]:
    """The way to `server` through `jump`; or to another host and port from there."""
    place = ExaminedHost(server, host=host, port=port)
    (place.folder / "ssh_config").write_text(
        f"Host bastion\n  HostName 127.0.0.1\n  Port {jump.port}\n  User {jump.user}\n"
        f"  IdentityFile {jump.identity}\nHost * !bastion\n  ProxyJump bastion\n"
    )
    yield place


@fault("jump", mends=False)  # the line belongs to the jump host's sshd
def a_jump_host_that_forbids_it() -> Iterator[ExaminedHost]:
    with Sshd(extra="AllowTcpForwarding no") as jump, Sshd() as server, jumping(jump, server) as place:
        yield place


@fault("jump", mends=False)
def a_jump_host_that_is_down() -> Iterator[ExaminedHost]:
    with Sshd() as jump, Sshd() as server:
        jump.stop()
        with jumping(jump, server) as place:
            yield place


@fault("jump", mends=False)
def a_host_that_the_jump_host_can_not_find() -> Iterator[ExaminedHost]:
    with Sshd() as jump, Sshd() as server, jumping(jump, server, host="no-such-host.invalid") as place:
        yield place


@fault("slow-login", mends=False, slow=True)  # it can be given time, and stays slow
def a_login_that_takes_eight_seconds() -> Iterator[ExaminedHost]:
    folder = Path(tempfile.mkdtemp(prefix="switchover-keys-", dir="/var/lib"))
    folder.chmod(0o755)
    try:
        with Sshd() as server:
            program = folder / "keys"
            program.write_text(f"#!/bin/sh\nsleep 8\ncat {server.folder}/authorized_keys\n")
            program.chmod(0o755)
            server.change("AuthorizedKeysCommandUser root")
            server.change(f"AuthorizedKeysCommand {program}")
            server.change("AuthorizedKeysFile none")
            yield ExaminedHost(server, deploy_to=server.new_dir())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@fault("not-ssh", mends=False)
def a_web_server_on_the_port() -> Iterator[ExaminedHost]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ExaminedHost(port=server.server_address[1], user="deploy", ssh={"connect_timeout": 2})
        server.shutdown()


REJECTING = """
table ip firewall {
  chain forward { type filter hook forward priority 0; policy accept;
    tcp dport 1-65535 reject with icmp admin-prohibited; }
}
"""
RATIONED = """
table ip rationed {
  chain forward { type filter hook forward priority 0; policy accept;
    tcp flags & (fin | syn | rst | ack) == syn limit rate over 1/minute burst 1 packets drop; }
}
"""


@fault("tcp-filtered", mends=False, programs=("ip", "nft"))
def a_firewall_that_rejects() -> Iterator[ExaminedHost]:
    with network.routed(REJECTING) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("rate-limited", mends=False, programs=("ip", "nft"), slow=True)
def one_new_connection_a_minute() -> Iterator[ExaminedHost]:
    with network.routed(RATIONED) as server:
        yield ExaminedHost(server, namespace=server.client, deploy_to=server.new_dir())


@fault("link-cut", mends=False)
def connections_that_are_cut_in_the_login() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(5_000)) as port:
        yield ExaminedHost(server, port=port)


@fault("auth-failed", mends=False)
def an_account_that_is_not_allowed() -> Iterator[ExaminedHost]:
    yield from sshd("AllowUsers somebody-else")


# -- a server that refuses: which line it is, only its log says ------------------------------------------

REFUSING = {
    "users that are left out": "DenyUsers *", "groups that are left out": "AllowGroups staff-only",
    "keys that are looked for elsewhere": "AuthorizedKeysFile /etc/ssh/keys-of/%u",
    "keys that are not taken at all": "PubkeyAuthentication no\nPasswordAuthentication yes",
    "a kind of key that is not taken": "PubkeyAcceptedAlgorithms rsa-sha2-512",
    "a folder of keys that others can write": "StrictModes yes",
}  # fmt: skip
faults("auth-failed", {name: lambda line=line: sshd(line) for name, line in REFUSING.items()}, mends=False)  # type: ignore[misc]


@fault("auth-failed", mends=False)
def root_that_may_not_log_in() -> Iterator[ExaminedHost]:
    with Sshd(user="root", extra="PermitRootLogin no") as server:
        yield ExaminedHost(server)


def _key_line(words: str) -> Iterator[ExaminedHost]:
    """A server whose authorized_keys has these words before the key."""
    with Sshd() as server:
        keys = server.folder / "authorized_keys"
        keys.write_text(f"{words} {keys.read_text()}")
        yield ExaminedHost(server)


faults(
    "auth-failed",
    {
        "a key for another address": lambda: _key_line('from="192.0.2.7"'),
        "a key that has expired": lambda: _key_line('expiry-time="20200101"'),
        "a line of keys that sshd can not read": lambda: _key_line("no-such-option"),
    },
    mends=False,
)


@fault("auth-failed", mends=False)
def an_account_that_is_locked() -> Iterator[ExaminedHost]:
    with account() as user, Sshd(user=user) as server:
        network.run("usermod", "-p", "!", user)
        yield ExaminedHost(server)


@fault("account")
def a_password_that_has_expired() -> Iterator[ExaminedHost]:
    with account() as user, Sshd(extra="UsePAM yes", user=user) as server:
        network.run("chage", "-d", "0", user)
        yield ExaminedHost(server)


faults(
    "second-factor",
    {
        "a code wanted besides": lambda: sshd(
            "UsePAM yes\nKbdInteractiveAuthentication yes\n"
            "AuthenticationMethods publickey,keyboard-interactive"
        ),
        "two keys wanted": lambda: sshd("AuthenticationMethods publickey,publickey"),
    },
)


def _key_file(make: Callable[[Path], object]) -> Iterator[ExaminedHost]:
    with Sshd() as server:
        path = server.folder / "odd"
        make(path)
        yield ExaminedHost(server, identity=path)


faults(
    "key-file",
    {
        "a folder for a key": lambda: _key_file(lambda path: path.mkdir()),
        "an empty key": lambda: _key_file(lambda path: path.touch()),
        "a key that is something else": lambda: _key_file(lambda path: path.write_text("hello\n")),
        "a key of PuTTYs": lambda: _key_file(
            lambda path: path.write_text("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n")
        ),
    },
    mends=False,
)


def _jump(extra: str, *, port: int = 0) -> Iterator[ExaminedHost]:
    with Sshd(extra=extra) as jump, Sshd() as server, jumping(jump, server, port=port) as place:
        yield place


faults(
    "jump",
    {
        "a jump host that opens other ports only": lambda: _jump("PermitOpen 192.0.2.1:22"),
        "a jump host with all forwarding off": lambda: _jump("DisableForwarding yes"),
        "a port that is closed from the jump host": lambda: _jump("", port=servers.free_port()),
    },
    mends=False,
)


def _proxy(command: str) -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server, ssh={"connect_timeout": 2})
        (place.folder / "ssh_config").write_text(f"Host *\n  ProxyCommand {command}\n")
        yield place


faults(
    "proxy-command",
    {
        "a proxy command that is silent": lambda: _proxy("sleep 60"),
        "a proxy command that says something else": lambda: _proxy("sh -c 'echo hello; sleep 9'"),
        "a proxy command that ends at once": lambda: _proxy("true"),
    },
    mends=False,
)
