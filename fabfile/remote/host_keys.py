"""Host keys: strict, accept-new or off. Fabric by itself accepts every key of every host."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import threading
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from ..errors import HostKeyRefused

GLOBAL_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")

_writing = threading.Lock()


def fingerprint(key: paramiko.PKey) -> str:
    """SHA256:… as ssh-keygen -l prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def prepare(client: paramiko.SSHClient, mode: str, known_hosts: Path) -> None:
    """Make `client` treat host keys as `mode` says; the files are read anew each time.

    Raises HostKeyRefused when a file of known hosts can't be read.
    """
    client.get_host_keys().clear()
    client.set_missing_host_key_policy(_Accept() if mode == "off" else _Ask(mode, known_hosts))
    if mode == "off":
        return
    for path in (known_hosts, GLOBAL_KNOWN_HOSTS):
        try:
            if path.is_file():
                client.get_host_keys().load(str(path))
        except (OSError, InvalidHostKey, UnicodeDecodeError) as error:
            raise HostKeyRefused(
                f"The file of known host keys {path} can't be read.",
                str(error),
                "Mend or remove the line it names, or name another file as ssh.known_hosts.",
            ) from error


def changed(error: paramiko.BadHostKeyException, name: str, known_hosts: Path) -> HostKeyRefused:
    """The error for a host whose key is not the one we know."""
    return HostKeyRefused(
        f"The host key of {name} has changed.",
        f"{known_hosts} knows {error.expected_key.get_name()} {fingerprint(error.expected_key)}; "
        f"the host now shows {error.key.get_name()} {fingerprint(error.key)}. "
        "Either the host was reinstalled, another host answers under its name, or somebody listens in.",
        "Ask whoever runs the host for its fingerprint (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub). "
        f"If it is the new one, forget the old: ssh-keygen -f {known_hosts} -R '{name}'",
    )


class _Accept(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """host_keys: off."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Take any key."""


class _Ask(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """host_keys: strict refuses an unknown key, accept-new writes it down."""

    def __init__(self, mode: str, known_hosts: Path) -> None:
        self.mode = mode
        self.known_hosts = known_hosts

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Refuse or remember the key."""
        if self.mode == "strict":
            raise HostKeyRefused(
                f"The host key of {hostname} is not known.",
                f"It shows {key.get_name()} {fingerprint(key)}; {self.known_hosts} has no key for it, "
                "and ssh.host_keys is strict.",
                "Compare the fingerprint with the host's, then log in once with ssh to remember it, "
                "or set ssh.host_keys: accept-new.",
            )
        _remember(self.known_hosts, hostname, key)


def _remember(known_hosts: Path, hostname: str, key: paramiko.PKey) -> None:
    line = HostKeyEntry([hostname], key).to_line()
    try:
        known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _writing, known_hosts.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            # A last line without its newline must not swallow ours.
            file.write((b"\n" if text and not text.endswith(b"\n") else b"") + line.encode())
    except OSError as error:
        raise HostKeyRefused(
            f"The new host key of {hostname} can't be written to {known_hosts}.",
            str(error),
            "Make the file writable, or name another as ssh.known_hosts.",
        ) from error
