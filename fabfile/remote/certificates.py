"""Host certificates (OpenSSH's PROTOCOL.certkeys): what one says, and whether it holds for a host."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import SSHCertificate

SUFFIX = "-cert-v01@openssh.com"
# What ssh allows a CA to sign with (ssh_config(5), CASignatureAlgorithms): no SHA-1.
CA_ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
                 "rsa-sha2-512", "rsa-sha2-256")  # fmt: skip


def is_certificate(blob: bytes) -> bool:
    """Whether a public key blob is a certificate."""
    return bool(paramiko.Message(blob).get_binary().endswith(SUFFIX.encode()))


def plain(blob: bytes) -> bytes:
    """The blob of the key that a certificate certifies. Raises ValueError where it is of no known kind."""
    message = paramiko.Message(blob)
    kind = message.get_binary().removesuffix(SUFFIX.encode())
    fields = _key_fields(kind)
    if not fields:
        raise ValueError("a certificate of an unknown kind")
    key = paramiko.Message()
    key.add_string(kind)
    message.get_binary()  # the nonce
    for _ in range(fields):  # numbers are strings too (RFC 4251, section 5)
        key.add_string(message.get_binary())
    return bytes(key.asbytes())


def authority(blob: bytes) -> bytes:
    """The blob of the key that has signed it; b"" where it can't be told."""
    return _tail(blob)[0]


def fault(blob: bytes, name: str, ca_algorithms: Collection[str]) -> str:
    """Why the certificate does not vouch for the host `name` now, or ""."""
    try:
        certificate = _load(blob)
        certificate.verify_cert_signature()
    except Exception as error:  # noqa: BLE001  (a stranger's bytes: whatever a parser raises is a no)
        return f"it can't be verified ({type(error).__name__})"
    return _unfit(certificate, name) or _wrongly_signed(blob, ca_algorithms)


def _unfit(certificate: SSHCertificate, name: str) -> str:
    from cryptography.hazmat.primitives.serialization import SSHCertificateType

    principals = [each.decode("utf-8", "replace") for each in certificate.valid_principals]
    now = time.time()
    if certificate.type is not SSHCertificateType.HOST:
        return "it is a user's, not a host's"
    if now < certificate.valid_after:
        return "it is not valid yet"
    if now >= certificate.valid_before:
        return "it has expired"
    if principals and name not in principals:
        return f"it is for {', '.join(principals)[:200]}, not for {name}"
    if certificate.critical_options:
        return "it has a critical option, and no host certificate may"
    return ""


def _wrongly_signed(blob: bytes, ca_algorithms: Collection[str]) -> str:
    algorithm = paramiko.Message(_tail(blob)[1]).get_binary().decode("ascii", "replace")
    allowed = [each for each in CA_ALGORITHMS if not ca_algorithms or each in ca_algorithms]
    return "" if algorithm in allowed else f"its authority signs with {algorithm}, which is not allowed"


def _load(blob: bytes) -> SSHCertificate:
    import base64

    from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

    kind = paramiko.Message(blob).get_binary()
    loaded = load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
    if not isinstance(loaded, SSHCertificate):
        raise TypeError("no certificate")
    return loaded


# How many fields the public key itself takes, by the start of its type.
_KEY_FIELDS = {b"ssh-ed25519": 1, b"ssh-rsa": 2, b"ecdsa-sha2": 2}


def _key_fields(kind: bytes) -> int:
    return next((n for start, n in _KEY_FIELDS.items() if kind.startswith(start)), 0)


def _tail(blob: bytes) -> tuple[bytes, bytes]:
    """The authority's key and its signature, the last two fields."""
    message = paramiko.Message(blob)
    kind = message.get_binary()
    for _ in range(1 + _key_fields(kind)):  # the nonce, and the key
        message.get_binary()
    message.get_int64(), message.get_int()  # serial and type
    message.get_binary(), message.get_binary()  # id and principals
    message.get_int64(), message.get_int64()  # from and until
    message.get_binary(), message.get_binary(), message.get_binary()  # options, extensions, reserved
    return message.get_binary(), message.get_binary()
