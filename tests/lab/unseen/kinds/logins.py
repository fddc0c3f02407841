"""The login: algorithms, host keys, accounts, keys, jump hosts, what stands in the way on this machine."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from random import Random

import paramiko

from tests.lab.unseen.kinds import Claim, claim, kind
from tests.lab.unseen.recipe import Host, Recipe
from tests.support import network, servers
from tests.support.sshd import Sshd

LISTS = {
    "KexAlgorithms": ("kex", paramiko.Transport._preferred_kex),
    "Ciphers": ("cipher", paramiko.Transport._preferred_ciphers),
    "MACs": ("mac", paramiko.Transport._preferred_macs),
}


@kind("login", weight=2)
def algorithms_that_we_lack(draw: Random, recipe: Recipe) -> Claim:
    keyword = draw.choice(list(LISTS))
    asked, ours = LISTS[keyword]
    theirs = subprocess.run(["ssh", "-Q", asked], capture_output=True, text=True, check=True).stdout.split()
    # Names that differ by an alias alone are ones that Switchover has.
    value = draw.choice([name for name in theirs if name not in ours and "curve25519" not in name])
    recipe.lines += [f"{keyword} {value}"] + (["Ciphers aes128-ctr"] if keyword == "MACs" else [])
    return claim(f"{keyword} {value}", "kex-mismatch")


REFUSING = {
    "AllowUsers somebody-else": "auth-failed", "DenyUsers *": "auth-failed",
    "AllowGroups nobody-s": "auth-failed",
    "DenyGroups *": "auth-failed", "PubkeyAuthentication no\nPasswordAuthentication yes": "auth-failed",
    "AuthorizedKeysFile none": "auth-failed", "AuthorizedKeysFile /nowhere/%u": "auth-failed",
    "PubkeyAcceptedAlgorithms rsa-sha2-512": "auth-failed", "StrictModes yes": "auth-failed",
    "AuthenticationMethods password\nPasswordAuthentication yes": "auth-failed",
    "PasswordAuthentication yes\nAuthenticationMethods publickey,password": "second-factor",
    "AuthenticationMethods publickey,publickey": "second-factor",
    "UsePAM yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive":
        "second-factor",
    "TrustedUserCAKeys none\nAuthorizedKeysFile /dev/null": "auth-failed",
}  # fmt: skip


@kind("login", weight=4)
def a_server_that_refuses(draw: Random, recipe: Recipe) -> Claim:
    lines = draw.choice(list(REFUSING))
    recipe.lines += lines.splitlines()
    return claim(lines.replace("\n", "; "), REFUSING[lines])


KEY_LINES = {
    'from="10.1.2.3"': "auth-failed", 'from="!127.0.0.1,*"': "auth-failed",
    'expiry-time="20200101"': "auth-failed", "cert-authority": "auth-failed",
    'command="echo backup done"': "shell-forced", 'command="/usr/bin/rrsync /srv"': "shell-forced",
    'command="internal-sftp"': "sftp-only", 'restrict,command="date"': "shell-forced", "# ": "auth-failed",
    'command="cat"': "shell-forced", "no-such-option": "auth-failed",
}  # fmt: skip


@kind("login", weight=3)
def an_odd_line_of_the_key(draw: Random, recipe: Recipe) -> Claim:
    words = draw.choice(list(KEY_LINES))

    def change(host: Host) -> None:
        keys = host.server.folder / "authorized_keys"
        keys.write_text(f"{words} {keys.read_text()}")

    recipe.changes.append(change)
    return claim(words, KEY_LINES[words])


@kind("login", weight=3)
def an_odd_account(draw: Random, recipe: Recipe) -> Claim:
    name, commands, ids = draw.choice((
        ("expired", ["chage -E 1 {}"], ("account",)),
        ("password expired", ["usermod -p x {}", "chage -d 0 {}"], ("account",)),
        ("locked", ["usermod -p !x {}"], ("auth-failed", "account")),
        ("a shell that is not there", ["usermod -s /opt/no/shell {}"], ("auth-failed", "shell-restricted")),
        ("inactive for long", ["chage -d 2020-01-01 -M 10 -I 5 {}"], ("account",)),
    ))  # fmt: skip
    if "expired" in name or "inactive" in name:
        recipe.lines.append("UsePAM yes")

    def change(host: Host) -> None:
        for command in commands:
            network.run(*shlex.split(command.format(host.server.user)))

    recipe.changes.append(change)
    return claim(name, *ids)


@kind("login", weight=3)
def a_slow_login(draw: Random, recipe: Recipe) -> Claim:
    seconds = draw.randint(2, 24)

    def change(host: Host) -> None:
        folder = Path(tempfile.mkdtemp(prefix="switchover-keys-", dir="/var/lib"))
        host.open.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        program = folder / "keys"
        program.write_text(f"#!/bin/sh\nsleep {seconds}\ncat {host.server.folder}/authorized_keys\n")
        program.chmod(0o755)
        recipe.set(
            host, "AuthorizedKeysCommandUser root", f"AuthorizedKeysCommand {program}",
            "AuthorizedKeysFile none"
        )  # fmt: skip

    recipe.changes.append(change)
    return claim(f"{seconds} s", "slow-login", quiet=seconds < 6)


@kind("client", weight=3)
def a_known_host_key(draw: Random, recipe: Recipe) -> Claim:
    how = draw.choice(("another key", "another key, by a pattern", "another key, hashed", "revoked", "strict",
                       "strict, with garbage"))  # fmt: skip
    if how.startswith("strict"):
        recipe.settings["ssh"] = {"host_keys": "strict"}

    def change(host: Host) -> None:
        file = host.place.folder / "known_hosts"
        name = f"[{host.place.host}]:{host.place.port}"
        real = (host.server.folder / "host_ed25519.pub").read_text().split()
        with tempfile.TemporaryDirectory() as folder:
            network.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/k")
            other = Path(f"{folder}/k.pub").read_text().split()
        if how.startswith("another key"):
            pattern = f"[127.0.0.*]:{host.place.port}" if "pattern" in how else name
            file.write_text(f"{pattern} {other[0]} {other[1]}\n")
            if "hashed" in how:
                network.run("ssh-keygen", "-H", "-f", str(file))
        elif how == "revoked":
            file.write_text(f"@revoked * {real[0]} {real[1]}\n")
        elif "garbage" in how:
            file.write_bytes(b"\x89PNG\r\n\0\xff\n\n# nothing\n")

    recipe.client.append(change)
    ids = {"a": ("hostkey-changed",), "r": ("hostkey-changed", "hostkey-unknown"), "s": ("hostkey-unknown",)}
    return claim(how, *ids[how[0]])


KEY_FILES = (
    "not there", "a folder", "empty", "garbage", "public half", "passphrase", "cut short", "PuTTY", "CRLF",
    "certificate",
)  # fmt: skip


@kind("client", weight=3)
def an_odd_key_file(draw: Random, recipe: Recipe) -> Claim:
    how = draw.choice(KEY_FILES)

    def change(host: Host) -> None:
        key = host.place.folder / "key"
        text = host.server.identity.read_text()
        if how == "a folder":
            key.mkdir()
        elif how == "passphrase":
            key.write_text(text)
            key.chmod(0o600)
            network.run("ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key))
        elif how != "not there":
            key.write_text({
                "empty": "", "garbage": "hello\n", "cut short": text[: len(text) // 2],
                "public half": host.server.identity.with_suffix(".pub").read_text(),
                "PuTTY": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: k\n",
                "CRLF": text.replace("\n", "\r\n"), "certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n",
            }[how])  # fmt: skip
            key.chmod(0o600)
        host.place.identity = key

    recipe.client.append(change)
    return claim(how, "key-file", quiet=how == "CRLF")  # OpenSSH takes that one


@kind("client")
def a_key_that_is_another_ones(draw: Random, recipe: Recipe) -> Claim:
    type_ = draw.choice(("ed25519", "ecdsa", "rsa"))

    def change(host: Host) -> None:
        key = host.place.folder / "other"
        network.run("ssh-keygen", "-q", "-t", type_, "-N", "", "-f", str(key))
        host.place.identity = key

    recipe.client.append(change)
    return claim(type_, "auth-failed")


@kind("client")
def too_many_keys(draw: Random, recipe: Recipe) -> Claim:
    count, tries = draw.randint(3, 5), draw.randint(1, 2)
    recipe.lines.append(f"MaxAuthTries {tries}")

    def change(host: Host) -> None:
        for number in range(count):
            network.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{host.place.folder}/k{number}")
        host.place.identity = None
        files = "".join(f"  IdentityFile {host.place.folder}/k{number}\n" for number in range(count))
        (host.place.folder / "ssh_config").write_text(
            f"Host *\n{files}  IdentityFile {host.server.identity}\n"
        )

    recipe.client.append(change)
    return claim(f"{count} before the right one, {tries} taken", "auth-too-many")


JUMPS = {
    "no forwarding": ("AllowTcpForwarding no", "jump"), "remote only": ("AllowTcpForwarding remote", "jump"),
    "other targets only": ("PermitOpen 10.0.0.1:22", "jump"), "none": ("PermitOpen none", "jump"),
    "forwarding disabled": ("DisableForwarding yes", "jump"), "no sessions": ("MaxSessions 0", ""),
    "a forced command": ("ForceCommand echo hi", ""), "down": ("", "jump"), "another key": ("", "jump"),
    "target unknown there": ("", "jump"), "target down there": ("", "jump"), "silent": ("", "jump"),
    "healthy": ("", ""), "refuses us": ("AllowUsers somebody-else", "jump"),
}  # fmt: skip


@kind("client", weight=4)
def a_jump_host(draw: Random, recipe: Recipe) -> Claim:
    name = draw.choice(list(JUMPS))
    line, expected = JUMPS[name]

    def change(host: Host) -> None:
        jump = host.open.enter_context(Sshd(extra=line))
        port, identity = jump.port, jump.identity
        if name == "down":
            jump.stop()
        elif name == "silent":
            port = host.open.enter_context(servers.speaks(b""))
        elif name == "another key":
            identity = host.server.identity
        elif name == "target unknown there":
            host.place.host = "inner.example.invalid"
        elif name == "target down there":
            host.place.port = servers.free_port()
        (host.place.folder / "ssh_config").write_text(
            f"Host bastion\n  HostName 127.0.0.1\n  Port {port}\n  User {jump.user}\n"
            f"  IdentityFile {identity}\nHost * !bastion\n  ProxyJump bastion\n"
        )

    recipe.client.append(change)
    also = ("auth-failed",) if name in ("another key", "refuses us") else ()
    return claim(name, *([expected, *also] if expected else []), quiet=not expected)


PROXIES = {
    "not there": ("/opt/no/such/program %h %p", "proxy-command"),
    "fails": ("sh -c 'echo cannot connect >&2; exit {}'", "proxy-command"),
    "ends at once": ("true", "proxy-command"), "silent": ("sleep 100", "proxy-command"),
    "prints something else": ("sh -c 'echo hello; sleep 5'", "proxy-command"),
    "killed": ("sh -c 'kill -9 $$'", "proxy-command"),
    "other port": ("sh -c 'exec 3<>/dev/tcp/127.0.0.1/1; cat <&3'", "proxy-command"),
    "healthy": ("/usr/bin/python3 {relay} %h %p", ""),
    "noise on stderr": ("sh -c 'echo welcome >&2; exec /usr/bin/python3 {relay} %h %p'", ""),
}  # fmt: skip
RELAY = """import socket, sys, threading, os
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while b := os.read(0, 65536): s.sendall(b)
    s.shutdown(1)
threading.Thread(target=up, daemon=True).start()
while b := s.recv(65536): os.write(1, b)
"""


@kind("client", weight=3)
def a_proxy_command(draw: Random, recipe: Recipe) -> Claim:
    name, status = draw.choice(list(PROXIES)), draw.choice((1, 3, 126, 127, 255))
    command, expected = PROXIES[name]

    def change(host: Host) -> None:
        relay = host.place.folder / "relay.py"
        relay.write_text(RELAY)
        words = command.replace("{relay}", str(relay)).replace("{}", str(status))
        (host.place.folder / "ssh_config").write_text(f"Host *\n  ProxyCommand {words}\n")

    recipe.client.append(change)
    return claim(name, *([expected] if expected else []), quiet=not expected)
