"""Each way in by ssh itself and by us, in the same run: both get in, or both are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import fabric
import pytest

from fabfile.errors import SwitchoverError
from fabfile.remote.host import connect
from fabfile.settings import Ssh
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(120)

Prepare = Callable[["Way"], None]


def keygen(*args: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *args], check=True, timeout=30, stdin=subprocess.DEVNULL)


class Way:
    """A folder with an ssh_config and a known_hosts of its own, and the server."""

    def __init__(self, folder: Path, server: Sshd) -> None:
        self.folder = folder
        self.server = server
        self.known = folder / "known_hosts"
        self.host_key = " ".join((server.folder / "host_ed25519.pub").read_text().split()[:2])
        self.place = f"[127.0.0.1]:{server.port}"
        self.name = "way"
        self.lines = [f"IdentityFile {server.identity}", "IdentitiesOnly yes"]
        self.known.write_text(f"{self.place} {self.host_key}\n")
        keygen("-t", "ed25519", "-N", "", "-f", str(folder / "other"))
        self.other = " ".join((folder / "other.pub").read_text().split()[:2])

    def knows(self, text: str | bytes) -> None:
        self.known.write_bytes(text if isinstance(text, bytes) else text.encode())

    def config(self, checking: str) -> Path:
        path = self.folder / "ssh_config"
        own = any(line.startswith("UserKnownHostsFile") for line in self.lines)
        path.write_text(
            "\n".join(
                [
                    "Host way", "  HostName 127.0.0.1", f"  Port {self.server.port}",
                    f"  User {self.server.user}", *(f"  {line}" for line in self.lines), "Host *",
                    *([] if own else [f"  UserKnownHostsFile {self.known}"]),
                    "  GlobalKnownHostsFile none", f"  StrictHostKeyChecking {checking}",
                ]
            )
            + "\n"
        )  # fmt: skip
        return path

    def by_ssh(self, checking: str) -> bool:
        command = ["ssh", "-F", str(self.config(checking)), "-o", "BatchMode=yes", "way", "true"]
        done = subprocess.run(command, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
        return done.returncode == 0

    def by_us(self, checking: str) -> SwitchoverError | None:
        return connected(fabric.Config(runtime_ssh_path=str(self.config(checking))))


def connected(config: fabric.Config, identity: str | None = None) -> SwitchoverError | None:
    """Why we can't connect to the ssh_config's host `way`; None where we can. Tried once."""
    rules = Ssh(reconnect={"attempts": 1, "window": 5})  # type: ignore[arg-type]
    try:
        host = connect("way", "way", rules, config, identity=identity)
        try:
            host.connect()
        finally:
            host.close()
    except SwitchoverError as error:
        return error
    return None


def known(template: str | bytes) -> Prepare:
    """known_hosts: {place}, {key}, {other} stand for what they say."""

    def prepare(way: Way) -> None:
        raw = template.encode() if isinstance(template, str) else template
        for name, value in (("place", way.place), ("key", way.host_key), ("other", way.other)):
            raw = raw.replace(b"{%s}" % name.encode(), value.encode())
        way.knows(raw)

    return prepare


def says(*lines: str) -> Prepare:
    def prepare(way: Way) -> None:
        values = {"dir": way.folder, "key": way.server.identity, "place": way.place}
        way.lines[:0] = [line.format(**values) for line in lines]

    return prepare


def hashed(way: Way) -> None:
    keygen("-H", "-f", str(way.known))


def alias(way: Way) -> None:
    way.lines.append("HostKeyAlias web.example")
    way.knows(f"web.example {way.host_key}\n")


def alias_unknown(way: Way) -> None:
    way.lines.append("HostKeyAlias web.example")


def revoked_list(way: Way) -> None:
    (way.folder / "revoked").write_text(f"# stolen\n{way.host_key} old\n")
    way.lines.append(f"RevokedHostKeys {way.folder}/revoked")


def revoked_krl(way: Way) -> None:
    (way.folder / "k.pub").write_text(way.host_key + "\n")
    keygen("-k", "-f", str(way.folder / "krl"), str(way.folder / "k.pub"))
    way.lines.append(f"RevokedHostKeys {way.folder}/krl")


def revoked_missing(way: Way) -> None:
    way.lines.append(f"RevokedHostKeys {way.folder}/nowhere")


def second_file(way: Way) -> None:
    (way.folder / "second").write_text(f"{way.place} {way.host_key}\n")
    way.knows("")
    way.lines.append(f"UserKnownHostsFile {way.known} {way.folder}/second")


def key_as(*how: str, phrase: str = "") -> Prepare:
    """The client's key, written anew as ssh-keygen does with these flags."""

    def prepare(way: Way) -> None:
        keygen("-N", phrase, *how, "-f", str(way.folder / "k"))
        with (way.server.folder / "authorized_keys").open("a") as file:
            file.write((way.folder / "k.pub").read_text())
        way.lines[:] = [f"IdentityFile {way.folder}/k", "IdentitiesOnly yes", "IdentityAgent none"]

    return prepare


def key_open(way: Way) -> None:
    shutil.copy(way.server.identity, way.folder / "k")
    (way.folder / "k").chmod(0o644)
    way.lines[0] = f"IdentityFile {way.folder}/k"


def key_missing(way: Way) -> None:
    way.lines[0] = f"IdentityFile {way.folder}/nowhere"


def key_by_token(way: Way) -> None:
    shutil.copy(way.server.identity, way.folder / f"k-{way.server.user}-127.0.0.1-{way.server.port}")
    way.lines[0] = f"IdentityFile {way.folder}/k-%r-%h-%p"


def key_public(way: Way) -> None:
    shutil.copy(way.server.identity.with_suffix(".pub"), way.folder / "k.pub")
    way.lines[0] = f"IdentityFile {way.folder}/k.pub"


WAYS: dict[str, Prepare] = {
    "known": lambda way: None,
    "unknown": known(""),
    "another key": known("{place} {other}\n"),
    "two keys": known("{place} {other}\n{place} {key}\n"),
    "pattern": known("[127.0.0.*]:* {key}\n"),
    "question marks": known("[127.0.?.?]:* {key}\n"),
    "negated": known("*,!{place} {key}\n"),
    "pattern of another key": known("[127.*]:* {other}\n"),
    "without the port": known("127.0.0.1 {key}\n"),
    "without the port, another": known("127.0.0.1 {other}\n"),
    "hashed": hashed,
    "revoked": known("{place} {key}\n@revoked * {key}\n"),
    "another revoked": known("{place} {key}\n@revoked * {other}\n"),
    "garbage": known(b"\xff\xfe\n{place} ssh-ed25519 AAAA!\nx\n@what * {key}\n{place} {key} caf\xe9\n"),
    "garbage only": known("{place} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==\n"),
    "another type": known("{place} ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQC7\n"),
    "unended": known("{place} {key}"),
    "alias": alias,
    "alias unknown": alias_unknown,
    "revoked list": revoked_list,
    "krl": revoked_krl,
    "no revoked list": revoked_missing,
    "second file": second_file,
    "pem rsa": key_as("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "pkcs8 rsa": key_as("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    "pkcs8 ecdsa": key_as("-t", "ecdsa", "-m", "PKCS8"),
    "pem ecdsa": key_as("-t", "ecdsa", "-b", "521", "-m", "PEM"),
    "openssh ecdsa": key_as("-t", "ecdsa"),
    "encrypted": key_as("-t", "ed25519", phrase="secret"),
    "mode 0644": key_open,
    "missing": key_missing,
    "tokens": key_by_token,
    "public": key_public,
    "proxy command": says(
        "ProxyCommand python3 -c 'import socket,os,threading as t;"
        's=socket.create_connection(("%h",%p));'
        't.Thread(target=lambda:[s.sendall(b) for b in iter(lambda:os.read(0,9999),b"")],daemon=1).start();'
        '[os.write(1,b) for b in iter(lambda:s.recv(9999),b"")]\''
    ),
    "no proxy command": says("ProxyCommand exit 3"),
}


BOTH = [(name, checking) for name in WAYS for checking in ("yes", "accept-new")]
# CI takes each way once, with one or the other; SWITCHOVER_ALL_WAYS=1 all.
SAMPLE = (
    BOTH if os.environ.get("SWITCHOVER_ALL_WAYS") else [BOTH[n] for n in range(len(BOTH)) if n % 4 in (1, 2)]
)


@pytest.mark.parametrize(("name", "checking"), SAMPLE)
def test_as_ssh_does(tmp_path: Path, sshd: Sshd, name: str, checking: str) -> None:
    for who in ("ssh", "us"):
        (tmp_path / who).mkdir()
    theirs, ours = Way(tmp_path / "ssh", sshd), Way(tmp_path / "us", sshd)
    for way in (theirs, ours):
        WAYS[name](way)
    expected = theirs.by_ssh(checking)
    error = ours.by_us(checking)
    assert (error is None) == expected, error and (error.what, error.why)
    assert ours.by_ssh("yes") == theirs.by_ssh("yes")  # what was written down means the same
