"""known_hosts files, read as OpenSSH reads them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; hostfile.c, match.c).

paramiko knows neither patterns nor markers nor a second key of a type, and ends at a line it can't read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

MARKERS = {b"@revoked": "revoked", b"@cert-authority": "cert-authority"}
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")

_writing = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """One key of one line. marker: "", "revoked" or "cert-authority"."""

    marker: str
    key_type: str
    blob: bytes
    file: Path


def entries(files: Iterable[Path], name: str) -> list[Entry]:
    """The entries for `name` (`host`, or `[host]:port`), in order. A line that can't be read is passed over,
    and so is a file that is not there.

    Raises OSError where a file is there and can't be read.
    """
    found = []
    for path in files:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if path.is_file():
                found += [
                    entry for line in path.read_bytes().split(b"\n") for entry in _entry(line, name, path)
                ]
    return found


def _entry(line: bytes, name: str, path: Path) -> Iterator[Entry]:
    words = line.split(None, 4)
    marker = ""
    if words and words[0].startswith(b"@"):
        if words[0] not in MARKERS:
            return
        marker = MARKERS[words.pop(0)]
    # Behind a marker a # is a part of the names.
    if len(words) < 3 or (not marker and words[0].startswith(b"#")) or not named(words[0], name):
        return
    key = public_key(words[1], words[2])
    if key is not None:
        yield Entry(marker, *key, path)


def public_key(key_type: bytes, encoded: bytes) -> tuple[str, bytes] | None:
    """Type and blob of a key as files write it; None: it is none."""
    try:
        blob = binascii.a2b_base64(encoded, strict_mode=True)
        kind = key_type.decode("ascii")
        if paramiko.Message(blob).get_binary() != key_type:
            return None
        # Damage must not pass for another key of the host. Types that we can't speak are never compared.
        if kind in KEY_TYPES and paramiko.PKey.from_type_string(kind, blob).asbytes() != blob:
            return None
    except Exception:  # noqa: BLE001  (paramiko and its backends raise whatever they like)
        return None
    return kind, blob


def named(field: bytes, name: str) -> bool:
    """Whether the first field of a line, hashed or a list of patterns, means `name`."""
    if field.startswith(b"|"):
        return _is_hash_of(field, name)
    wanted = name.lower().encode("utf-8", "surrogateescape")
    found = False
    for pattern in field.lower().split(b","):
        if glob(wanted, pattern.removeprefix(b"!")):
            if pattern.startswith(b"!"):
                return False
            found = True
    return found


def _is_hash_of(field: bytes, name: str) -> bool:
    parts = field.split(b"|")
    if len(parts) != 4 or parts[1] != b"1":
        return False
    try:
        salt, digest = (binascii.a2b_base64(part, strict_mode=True) for part in parts[2:])
    except binascii.Error:
        return False
    return hmac.compare_digest(digest, _hash(salt, name))


def _hash(salt: bytes, name: str) -> bytes:
    return hmac.new(salt, name.encode("utf-8", "surrogateescape"), hashlib.sha1).digest()


def glob(text: bytes, pattern: bytes) -> bool:
    """Whether `pattern`, where `*` and `?` are the only wildcards, matches all of `text`."""
    at = in_pattern = 0
    star, resume = -1, 0
    while at < len(text):
        if in_pattern < len(pattern) and pattern[in_pattern : in_pattern + 1] == b"*":
            star, resume = in_pattern, at
            in_pattern += 1
        elif in_pattern < len(pattern) and pattern[in_pattern : in_pattern + 1] in (b"?", text[at : at + 1]):
            at += 1
            in_pattern += 1
        elif star >= 0:  # let the last star take one more
            resume += 1
            at, in_pattern = resume, star + 1
        else:
            return False
    return not pattern[in_pattern:].strip(b"*")


def remember(path: Path, name: str, key_type: str, blob: bytes, *, hashed: bool) -> None:
    """Add a key to the end of a file, which is made where it is missing. Raises OSError."""
    shown = name
    if hashed:
        salt = os.urandom(20)
        shown = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(_hash(salt, name)).decode()}"
    line = f"{shown} {key_type} {base64.b64encode(blob).decode()}\n"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _writing, path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.is_file() and file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            # A last line without its newline must not swallow ours.
            line = ("" if file.read(1) == b"\n" else "\n") + line
        file.write(line.encode("utf-8", "surrogateescape"))
