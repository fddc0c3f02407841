"""Host keys: what OpenSSH would accept is accepted, what it would refuse is refused.

Fabric by itself accepts every key of every host. The rules are those of check_host_key() in OpenSSH's
sshconnect.c; where keys are known, and how strictly, is said by ssh_config and by config.yaml.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import paramiko

from ..errors import HostKeyRefused
from ..settings import Ssh
from . import certificates, known_hosts
from .known_hosts import KEY_TYPES, Entry

KRL_MAGIC = b"SSHKRL\n\0"  # OpenSSH's PROTOCOL.krl
KRL_TIMEOUT = 10.0  # seconds for ssh-keygen to look one key up
GLOBAL_FILES = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
SIGNATURES = {
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")
}  # algorithms of a key type, where it is not its own


def own_files() -> tuple[Path, ...]:
    """The user's files where ssh_config names none; the first is written to."""
    return tuple(Path.home() / ".ssh" / name for name in ("known_hosts", "known_hosts2"))


@dataclass(frozen=True)
class Said:
    """What ssh_config says about the host keys of one host.

    checking: yes, accept-new, ask or no (ssh_config(5), StrictHostKeyChecking). alias: HostKeyAlias.
    algorithms: those that may be used; empty: all that we know.
    """

    checking: str = "ask"
    files: tuple[Path, ...] = field(default_factory=own_files)
    global_files: tuple[Path, ...] = GLOBAL_FILES
    alias: str | None = None
    revoked: Path | None = None
    hashed: bool = False
    algorithms: tuple[str, ...] = ()
    ca_algorithms: tuple[str, ...] = ()


def fingerprint(blob: bytes) -> str:
    """SHA256:… as ssh-keygen -l prints it."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def mode(rules: Ssh, said: Said) -> str:
    """strict, accept-new or off: config.yaml's word where there is one, but never laxer than what ssh_config
    asks for. Its default, ask, is accept-new here: there is nobody to be asked.
    """
    theirs = {"yes": "strict", "accept-new": "accept-new", "no": "off"}.get(said.checking)
    ours = rules.host_keys
    if ours is None:
        return theirs or "accept-new"
    strictness = ("off", "accept-new", "strict")
    return max(ours, theirs or "off", key=strictness.index)


class HostKeys:
    """The known keys of one host, and the verdict about the one that it shows. The files are read anew by
    each `read()`.

    tell: is given each key that is taken without having been known, as text.
    """

    def __init__(
        self, host: str, port: int, rules: Ssh, said: Said, tell: Callable[[str, str], None]
    ) -> None:
        self.said = said
        self.mode = mode(rules, said)
        self.host = said.alias or host.lower()
        self.name = self.host if port == 22 or said.alias else f"[{self.host}]:{port}"
        self.files = (rules.known_hosts,) if rules.known_hosts else said.files
        self.tell = tell
        self._entries: dict[str, list[Entry]] = {}

    @property
    def file(self) -> Path | None:
        """Where a new key is written."""
        return self.files[0] if self.files else None

    def read(self) -> None:
        """Read the files. Raises HostKeyRefused when one can't be read."""
        if self.mode == "off":
            return
        try:
            for name in {self.name, self.host}:
                known = known_hosts.entries((*self.files, *self.said.global_files), name)
                # A file that config.yaml has put another in the place of can still revoke.
                others = [path for path in self.said.files if path not in self.files]
                revoked = [each for each in known_hosts.entries(others, name) if each.marker == "revoked"]
                self._entries[name] = known + revoked
        except OSError as error:
            raise HostKeyRefused(
                f"The file of known host keys {error.filename} can't be read.",
                str(error.strerror),
                "Make it readable, or name another file as ssh.known_hosts.",
                problem="unreadable",
            ) from error

    def algorithms(self) -> tuple[str, ...]:
        """The host key algorithms to offer, those first by which the host is known."""
        entries = self._entries.get(self.name, []) if self.mode != "off" else []
        known = {entry.key_type for entry in entries if not entry.marker}
        certified = any(entry.marker == "cert-authority" for entry in self._all_entries())
        types = sorted(KEY_TYPES, key=lambda kind: kind not in known)
        plain = [name for kind in types for name in SIGNATURES.get(kind, (kind,))]
        offered = [name + certificates.SUFFIX for name in plain] + plain if certified else plain
        return tuple(name for name in offered if not self.said.algorithms or name in self.said.algorithms)

    def _all_entries(self) -> list[Entry]:
        return (
            [entry for entries in self._entries.values() for entry in entries] if self.mode != "off" else []
        )

    def check(self, blob: bytes) -> None:
        """Take the key (or certificate) that the host shows, or raise HostKeyRefused."""
        self._check_revoked_list(blob)
        if self.mode == "off":
            self.tell("warn", f"host keys are not checked, so anybody may answer for {self.host}: "
                      f"it shows {_named(blob)}")  # fmt: skip
            return
        why = ""
        if certificates.is_certificate(blob):
            status, known = self._status(blob)
            why = certificates.fault(blob, self.host, self.said.ca_algorithms) if status == "known" else ""
            if status == "known" and not why:
                return
            if status == "revoked":
                raise self._revoked(blob, str(known[0].file))
            blob = certificates.plain(blob)  # no authority vouches for it, but the key may be known
        status, known = self._status(blob)
        if status == "known":
            return
        if status == "revoked":
            raise self._revoked(blob, str(known[0].file))
        if status == "changed":
            raise self._changed(blob, known[0])
        self._new(blob, why)

    def _status(self, blob: bytes) -> tuple[str, list[Entry]]:
        """known, new, changed or revoked, and the entries that say so."""
        status, known = _compare(self._entries.get(self.name, []), blob)
        if status == "new" and self.name != self.host:
            # As ssh does: a key that is known without the port will do.
            plain = _compare(self._entries.get(self.host, []), blob)
            if plain[0] == "known":
                return plain
        return status, known

    def _check_revoked_list(self, blob: bytes) -> None:
        path = self.said.revoked
        if path is None:
            return
        try:
            revoked = _is_listed(path, blob)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise HostKeyRefused(
                f"The list of revoked keys {path} can't be used, so no host key is taken.",
                str(error),
                "Mend the file, or take RevokedHostKeys out of ssh_config.",
                problem="unreadable",
            ) from error
        if revoked:
            raise self._revoked(blob, str(path))

    def _revoked(self, blob: bytes, where: str) -> HostKeyRefused:
        return HostKeyRefused(
            f"The host key of {self.name} is revoked.",
            f"it shows {_named(blob)}, which {where} revokes",
            "Somebody may hold a stolen key. Ask whoever runs the host for its new one.",
            problem="revoked", shown=fingerprint(blob),
        )  # fmt: skip

    def _changed(self, blob: bytes, known: Entry) -> HostKeyRefused:
        return HostKeyRefused(
            f"The host key of {self.name} has changed.",
            f"{known.file} knows {_named(known.blob)}; the host now shows {_named(blob)}. "
            "Either the host was reinstalled, another host answers under its name, or somebody listens in.",
            "Ask whoever runs the host for its fingerprint (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub). "
            f"If it is the new one, forget the old one:\n{self.forget(known.file)}",
            problem="changed", shown=fingerprint(blob), known=fingerprint(known.blob), file=str(known.file),
            commands=[self.forget(known.file)],
        )  # fmt: skip

    def forget(self, file: Path | str) -> str:
        """The command that removes the host's keys from a file."""
        return f"ssh-keygen -f {quote(str(file))} -R {quote(self.name)}"

    def _new(self, blob: bytes, certificate_fault: str) -> None:
        """strict refuses a key that is not known, accept-new writes it down."""
        refused = f" Its certificate does not count: {certificate_fault}." if certificate_fault else ""
        if self.mode == "strict":
            raise HostKeyRefused(
                f"The host key of {self.name} is not known.",
                f"It shows {_named(blob)}; {self.file or 'no file'} has no key for it, and only known keys "
                f"are taken (ssh.host_keys: strict, or StrictHostKeyChecking yes).{refused}",
                "Compare the fingerprint with the host's, then log in once with ssh to remember it, "
                "or set ssh.host_keys: accept-new.",
                problem="unknown", shown=fingerprint(blob),
            )  # fmt: skip
        kind = paramiko.Message(blob).get_binary().decode()
        where = f"written to {self.file}" if self.file else "not written down"
        try:
            if self.file:
                known_hosts.remember(self.file, self.name, kind, blob, hashed=self.said.hashed)
        except OSError as error:  # as ssh does: it is taken all the same
            where = f"not written to {self.file}: {error.strerror}"
        others = {entry.key_type for entry in self._entries.get(self.name, []) if not entry.marker}
        also = f" (it is known by another kind of key: {', '.join(sorted(others))})" if others else ""
        level = "warn" if others or where.startswith("not") or refused else "info"
        self.tell(level, f"new host key of {self.name}: {_named(blob)}, {where}{also}.{refused}")


def _named(blob: bytes) -> str:
    kind = paramiko.Message(blob).get_binary().decode("ascii", "replace")
    return f"{kind} {fingerprint(blob)}"


def _compare(entries: list[Entry], blob: bytes) -> tuple[str, list[Entry]]:
    kind = paramiko.Message(blob).get_binary().decode("ascii", "replace")
    certificate = certificates.is_certificate(blob)
    signer = certificates.authority(blob) if certificate else blob
    same = [entry for entry in entries if entry.blob == signer]
    plain = certificates.plain(blob) if certificate else blob
    revoked = [e for e in entries if e.marker == "revoked" and e.blob in (signer, plain)]
    if revoked:
        return "revoked", revoked
    wanted = "cert-authority" if certificate else ""
    if matching := [entry for entry in same if entry.marker == wanted]:
        return "known", matching
    others = [entry for entry in entries if not certificate and not entry.marker and entry.key_type == kind]
    return ("changed", others) if others else ("new", [])


def _is_listed(path: Path, blob: bytes) -> bool:
    """Whether a list of revoked keys holds this one, or the authority of this certificate."""
    data = path.read_bytes()
    if data.startswith(KRL_MAGIC):
        return _in_krl(path, blob)
    blobs = {blob}
    if certificates.is_certificate(blob):
        blobs = {certificates.plain(blob), certificates.authority(blob)}
    for line in data.split(b"\n"):
        words = line.split()
        if len(words) > 1 and not words[0].startswith(b"#"):
            key = known_hosts.public_key(words[0], words[1])
            if key and key[1] in blobs:
                return True
    return False


def _in_krl(path: Path, blob: bytes) -> bool:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        raise ValueError("it is a KRL, and this machine has no ssh-keygen to read it with")
    kind = paramiko.Message(blob).get_binary()
    with tempfile.NamedTemporaryFile(suffix=".pub") as key:
        key.write(kind + b" " + base64.b64encode(blob) + b"\n")
        key.flush()
        done = subprocess.run(
            [keygen, "-Q", "-f", str(path), key.name],
            capture_output=True,
            timeout=KRL_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    # 1 is also what it says where it can't read the file: only words about this key are an answer.
    if done.returncode == 0:
        return False
    if b"REVOKED" in done.stdout:
        return True
    raise ValueError(done.stderr.decode("utf-8", "replace").strip()[:300] or "ssh-keygen can't read it")
