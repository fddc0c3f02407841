"""The keys that we can log in with: files in every format that ssh takes, certificates, and the agent's."""

from __future__ import annotations

import binascii
import contextlib
import copy
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.pkey import PublicBlob

from . import certificates, known_hosts

KEY_LIMIT = 1 << 20  # bytes of a key file
AGENT_ANSWERS_WITHIN = 10.0  # seconds
AGENT_SIGNS_WITHIN = 60.0  # seconds; a token may want to be touched
DEFAULT_NAMES = ("id_rsa", "id_ecdsa", "id_ed25519")


@dataclass(frozen=True)
class Unusable:
    """A key file that can't be used. problem: missing, unreadable, open, public, encrypted or damaged."""

    path: str
    problem: str
    detail: str = ""


@dataclass
class Ways:
    """What there is to log in with.

    files: key files by name, the first to be tried first. certificates: files of certificates.
    agent: the agent's socket; "none": no agent; None: SSH_AUTH_SOCK says. only: no key that `files` does not
    name. defaults: whether ~/.ssh/id_* are tried too.
    """

    files: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    agent: str | None = None
    only: bool = False
    defaults: bool = True
    key: paramiko.PKey | None = None
    password: str | None = None
    passphrase: str | None = None
    unusable: list[Unusable] = field(default_factory=list)


@dataclass(frozen=True)
class Offer:
    """A key to try, and what a person calls it."""

    name: str
    key: paramiko.PKey


def offers(ways: Ways) -> Iterator[Offer]:
    """The keys in the order in which they are tried, no (key, certificate) twice.

    Files that can't be used are added to `ways.unusable`. The agent is asked only when its turn comes.
    """
    agent = _Agent(ways.agent)
    seen: set[bytes] = set()
    try:
        for offer in _all(ways, agent):
            for each in _certified(offer, ways.certificates):
                blob = each.key.public_blob.key_blob if each.key.public_blob else each.key.asbytes()
                if blob not in seen:
                    seen.add(blob)
                    yield each
    finally:
        agent.close()


def _all(ways: Ways, agent: _Agent) -> Iterator[Offer]:
    if ways.key is not None:
        yield Offer("the key given as pkey", ways.key)
    for name in ways.files:
        yield from _from_file(name, ways, agent)
    if not ways.only:
        for key in agent.held():
            yield Offer(f"the agent's {key.get_name()} {key.comment}".rstrip(), key)
    if ways.defaults:
        for path in (Path.home() / ".ssh" / name for name in DEFAULT_NAMES):
            if path.is_file():
                yield from _from_file(str(path), ways, agent)


def _from_file(name: str, ways: Ways, agent: _Agent) -> Iterator[Offer]:
    path = str(Path(name).expanduser())
    path = path.removesuffix("-cert.pub")
    found = load(path, ways.passphrase or ways.password)
    if isinstance(found, paramiko.PKey):
        yield Offer(path, found)
        return
    # What only the agent can sign with: a .pub file, a token's key, one that is encrypted.
    blob = _public_half(path)
    held = next((key for key in agent.held() if key.plain == blob), None) if blob else None
    if held is None:
        ways.unusable.append(found)
    else:
        yield Offer(f"{path} (by the agent)", held)


# -- files ---------------------------------------------------------------------------------------------


def load(path: str, passphrase: str | None) -> paramiko.PKey | Unusable:
    """The private key in a file, or why there is none to be had."""
    try:
        data, info = _content(path)
    except FileNotFoundError:
        return Unusable(path, "missing")
    except OSError as error:
        return Unusable(path, "unreadable", error.strerror or "")
    if not stat.S_ISREG(info.st_mode):
        return Unusable(path, "damaged", "it is no regular file")
    if _public_key_in(data):
        return Unusable(path, "public")
    if info.st_uid == os.getuid() and info.st_mode & 0o077:
        return Unusable(path, "open", f"mode {stat.S_IMODE(info.st_mode):04o}")
    return _parse(path, data, passphrase)


def _content(path: str) -> tuple[bytes, os.stat_result]:
    """The beginning of a regular file; b"" of any other: a FIFO would keep us waiting. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        info = os.fstat(file.fileno())
        return (file.read(KEY_LIMIT) if stat.S_ISREG(info.st_mode) else b""), info


def _parse(path: str, data: bytes, passphrase: str | None) -> paramiko.PKey | Unusable:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as formats

    modern = b"BEGIN OPENSSH PRIVATE KEY" in data
    read = formats.load_ssh_private_key if modern else formats.load_pem_private_key
    secret = passphrase.encode() if passphrase else None
    try:
        try:
            return _as_paramiko(read(data, secret))
        except TypeError:
            if secret is None:
                return Unusable(path, "encrypted")
            return _as_paramiko(read(data, None))  # it needs none
    except (ValueError, UnsupportedAlgorithm, TypeError, AttributeError, paramiko.SSHException) as error:
        encrypted = b"ENCRYPTED" in data or (modern and b"bcrypt" in _body(data)[:64])
        if encrypted and secret is not None:
            return Unusable(path, "encrypted", "the passphrase that was given does not open it")
        return Unusable(path, "damaged", str(error).splitlines()[0][:200] if str(error) else "")


def _as_paramiko(key: Any) -> paramiko.PKey:
    """paramiko's object for a private key of cryptography's."""
    import io

    from cryptography.hazmat.primitives import serialization as formats
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        plain = formats.Encoding.PEM, formats.PrivateFormat.OpenSSH, formats.NoEncryption()
        return paramiko.Ed25519Key(file_obj=io.StringIO(key.private_bytes(*plain).decode()))
    raise ValueError(f"a kind of key that can't be used here ({type(key).__name__.strip('_')})")


def _public_half(path: str) -> bytes | None:
    """The public blob of a key file: itself, FILE.pub, or the part of FILE that is never encrypted."""
    for name in (path, f"{path}.pub"):
        with contextlib.suppress(OSError):
            data, _ = _content(name)
            if found := _public_key_in(data) or _in_openssh_format(data):
                return found
    return None


def _public_key_in(data: bytes) -> bytes | None:
    words = data.split(b"\n", 1)[0].split()
    found = known_hosts.public_key(words[0], words[1]) if len(words) > 1 else None
    return found[1] if found else None


def _in_openssh_format(data: bytes) -> bytes | None:
    """PROTOCOL.key of OpenSSH: magic, cipher, kdf, its options, the number of keys, and the public ones."""
    message = paramiko.Message(_body(data))
    if message.get_bytes(15) != b"openssh-key-v1\0":
        return None
    message.get_binary(), message.get_binary(), message.get_binary(), message.get_int()
    return bytes(message.get_binary()) or None


def _body(data: bytes) -> bytes:
    match = re.search(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", data, re.DOTALL)
    try:
        return binascii.a2b_base64(match[1]) if match else b""
    except binascii.Error:
        return b""


# -- certificates ----------------------------------------------------------------------------------------


def _certified(offer: Offer, files: Iterable[str]) -> Iterator[Offer]:
    """The key with each certificate that is for it, then by itself."""
    plain = offer.key.plain if isinstance(offer.key, AgentKey) else offer.key.asbytes()
    path = offer.name.removesuffix(" (by the agent)").removesuffix(".pub")
    for name in (f"{path}-cert.pub", *files):
        blob = _certificate(name)
        with contextlib.suppress(Exception):  # what is no certificate, or of a kind that paramiko lacks
            if blob is not None and certificates.plain(blob) == plain:
                key = copy.copy(offer.key)
                key.public_blob = PublicBlob(paramiko.Message(blob).get_text(), blob)
                yield Offer(f"{offer.name} with {name}", key)
    yield offer


def _certificate(name: str) -> bytes | None:
    try:
        words = _content(str(Path(name).expanduser()))[0].split(None, 2)
        return binascii.a2b_base64(words[1])
    except (OSError, IndexError, binascii.Error):
        return None


# -- the agent -------------------------------------------------------------------------------------------


class AgentKey(paramiko.AgentKey):  # type: ignore[misc]
    """A key that an agent holds; plain: its blob, of a certificate that of its key."""

    def __init__(self, agent: Any, blob: bytes, comment: str) -> None:
        super().__init__(agent, blob, comment)
        self.plain = blob
        if certificates.is_certificate(blob):
            self.plain = certificates.plain(blob)
            self.public_blob = PublicBlob(self.name, blob)

    def asbytes(self) -> bytes:
        """The blob by which the agent knows it."""
        return bytes(self.blob)


class _Agent(paramiko.agent.AgentSSH):  # type: ignore[misc]
    """The agent behind a socket, connected to at first use. Where there is none, it has no keys."""

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self.path = os.environ.get("SSH_AUTH_SOCK") if path is None else path
        self._held: list[AgentKey] | None = None

    def held(self) -> list[AgentKey]:
        """The keys it holds."""
        if self._held is None:
            self._held = []
            if self.path and self.path != "none":
                with contextlib.suppress(OSError, paramiko.SSHException):
                    self._held = self._list(self.path)
        return self._held

    def _list(self, path: str) -> list[AgentKey]:
        self._conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._conn.settimeout(AGENT_ANSWERS_WITHIN)
        self._conn.connect(path)
        kind, answer = self._send_message(b"\x0b")  # SSH2_AGENTC_REQUEST_IDENTITIES
        if kind != 12:  # SSH2_AGENT_IDENTITIES_ANSWER
            return []
        self._conn.settimeout(AGENT_SIGNS_WITHIN)
        found = []
        for _ in range(min(answer.get_int(), 1000)):
            blob, comment = bytes(answer.get_binary()), answer.get_binary().decode("utf-8", "replace")
            with contextlib.suppress(Exception):  # a kind of key that nobody here knows
                found.append(AgentKey(self, blob, comment))
        return found

    def close(self) -> None:
        """Let it go."""
        self._close()
