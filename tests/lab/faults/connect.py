"""Connecting: names, ports, greetings, algorithms, host keys.

What is wrong lies elsewhere than in a line of the server's, so most is not mended.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator

from tests.lab.faults.declared import fault, faults, sshd
from tests.support import network, servers
from tests.support.accounts import account
from tests.support.examined import ExaminedHost
from tests.support.sockets import listening
from tests.support.sshd import Sshd


@fault("dns", mends=False)
def a_name_that_does_not_resolve() -> Iterator[ExaminedHost]:
    yield ExaminedHost(host="no-such-host.invalid", port=22, user="deploy")


@fault("tcp-refused", mends=False)
def a_port_where_nobody_listens() -> Iterator[ExaminedHost]:
    yield ExaminedHost(port=servers.free_port(), user="deploy")


@fault("tcp-filtered", mends=False, programs=("ip", "nft"))
def a_firewall_that_swallows() -> Iterator[ExaminedHost]:
    with network.routed(network.FILTERING) as server:
        yield ExaminedHost(server, namespace=server.client, ssh={"connect_timeout": 2})


@fault("host-unreachable", mends=False, programs=("ip", "nft"))
def a_host_that_is_down() -> Iterator[ExaminedHost]:
    with network.routed(network.OPEN) as server:
        yield ExaminedHost(server, host="10.99.2.77", namespace=server.client, ssh={"connect_timeout": 8})


@fault("not-ssh", mends=False)
def another_service_on_the_port() -> Iterator[ExaminedHost]:
    with servers.speaks(b"220 ftp ready\r\n") as port:
        yield ExaminedHost(port=port, user="deploy", ssh={"connect_timeout": 2})


@fault("banner-silent", mends=False)
def a_server_that_says_nothing() -> Iterator[ExaminedHost]:
    with servers.speaks(b"") as port:
        yield ExaminedHost(port=port, user="deploy", ssh={"connect_timeout": 2})


@fault("banner-refused", mends=False)
def a_server_that_hangs_up() -> Iterator[ExaminedHost]:
    with servers.speaks(b"", hang_up=True) as port:
        yield ExaminedHost(port=port, user="deploy")


@fault("banner-refused", mends=False)
def a_penalty_for_our_address() -> Iterator[ExaminedHost]:
    with servers.speaks(b"Not allowed at this time\r\n", hang_up=True) as port:
        yield ExaminedHost(port=port, user="deploy")


@fault("banner-refused")
def too_many_logins_under_way() -> Iterator[ExaminedHost]:
    with Sshd(extra="MaxStartups 1") as server, contextlib.ExitStack() as stack:
        place = ExaminedHost(server)
        stack.callback(place.close)
        # The connection that saw the server start may still count: ours has to be the one that is greeted.
        deadline = time.monotonic() + 10
        while (waiting := socket.create_connection((server.host, server.port), 5)).recv(4) != b"SSH-":
            waiting.close()
            assert time.monotonic() < deadline, "nobody is let in"
        stack.callback(waiting.close)
        yield place


@fault("kex-mismatch")
def algorithms_of_another_age() -> Iterator[ExaminedHost]:
    yield from sshd("KexAlgorithms diffie-hellman-group14-sha1")


@fault("hostkey-changed")
def another_host_key() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        shutil.copy(server.known_hosts, place.folder / "known_hosts")
        server.rekey()
        yield place


@fault("hostkey-unknown")
def an_unknown_host_key() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, ssh={"host_keys": "strict"})


@fault("auth-failed", mends=False)  # its advice, ssh-copy-id, needs another way in
def a_key_that_is_not_authorized() -> Iterator[ExaminedHost]:
    with Sshd() as server, Sshd() as other:
        yield ExaminedHost(server, identity=other.identity)


@fault("auth-too-many")
def more_keys_than_the_server_takes() -> Iterator[ExaminedHost]:
    with Sshd(extra="MaxAuthTries 2") as server:
        home = server.new_dir("home-")
        (home / ".ssh").mkdir(mode=0o700)
        for kind in ("rsa", "ecdsa"):
            network.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", f"{home}/.ssh/id_{kind}")
        shutil.copy(server.identity, home / ".ssh/id_ed25519")
        yield ExaminedHost(server, home=home)


@fault("account")
def an_account_that_has_expired() -> Iterator[ExaminedHost]:
    with account() as user, Sshd(extra="UsePAM yes", user=user) as server:
        network.run("chage", "-E", "1", user)
        yield ExaminedHost(server)


@fault("account", mends=False)  # the client can't know the directory
def a_chroot_of_the_wrong_owner() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        folder = server.new_dir("chroot-")
        server.change(f"ChrootDirectory {folder}")
        yield ExaminedHost(server)


faults(
    "not-ssh",
    {
        "a mail server on the port": lambda: _service(b"220 mail.example.com ESMTP\r\n"),
        "a database on the port": lambda: _service(b"J\0\0\0\n8.0.36\0\x08\0\0\0abcdefgh\0\xff"),
        "a mailbox on the port": lambda: _service(b"* OK IMAP4rev1 ready\r\n", hang_up=True),
    },
    mends=False,
)


def _service(greeting: bytes, *, hang_up: bool = False) -> Iterator[ExaminedHost]:
    with servers.speaks(greeting, hang_up=hang_up) as port:
        yield ExaminedHost(port=port, user="deploy", ssh={"connect_timeout": 2})


@fault("not-ssh", mends=False)
def a_tls_server_on_the_port() -> Iterator[ExaminedHost]:
    def alert(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x0a")

    with listening(alert) as port:
        yield ExaminedHost(port=port, user="deploy", ssh={"connect_timeout": 2})


faults(
    "kex-mismatch",
    {
        "a cipher that we lack": lambda: sshd("Ciphers chacha20-poly1305@openssh.com"),
        "a checksum that we lack": lambda: sshd("Ciphers aes128-ctr\nMACs umac-64@openssh.com"),
    },
)


@fault("hostkey-changed")
def another_host_key_under_a_hashed_name() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        shutil.copy(server.known_hosts, place.folder / "known_hosts")
        network.run("ssh-keygen", "-H", "-f", str(place.folder / "known_hosts"))
        server.rekey()
        yield place


@fault("tcp-refused", mends=False, programs=("ip", "nft"))
def a_firewall_that_resets() -> Iterator[ExaminedHost]:
    with network.routed(network.FILTERING.replace("drop;", "reject with tcp reset;")) as server:
        yield ExaminedHost(server, namespace=server.client)
