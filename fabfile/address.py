"""`[user@]host[:port]`, as -H, config.yaml and ssh_config's ProxyJump write it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

ALLOWED = (
    "[user@]host[:port] (port 1 to 65535; IPv6 in brackets where a port follows), without spaces, quotes, "
    "control characters and a leading -"
)

# What OpenSSH refuses in a login and in a name (valid_ruser and valid_hostname in ssh.c), and what would
# end the part.
_BAD = r"""\s\x00-\x1f\x7f-\x9f'"`;&<>|(){},"""
_LOGIN = re.compile(rf"(?!-)[^{_BAD}:]+(?<!\\)")
_NAME = re.compile(rf"(?!-)[^{_BAD}$\\\[\]@:]+")
_PARTS = re.compile(
    r"(?:(?P<user>.*)@)?(?:\[(?P<inner>[^\]]*)\]|(?P<host>[^@\[\]]*?))(?::(?P<port>[0-9]{1,5}))?", re.DOTALL
)


@dataclass(frozen=True)
class Address:
    """A host as somebody wrote it; None: not said. An IPv6 address has no brackets here."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


def parse(text: str) -> Address:
    """The address that `text` stands for, also as ssh://[user@]host[:port].

    Raises ValueError with what is allowed.
    """
    rest = text.removeprefix("ssh://")
    user, at, place = rest.rpartition("@")
    if _is_ipv6(place):  # what follows its last colon belongs to it
        return Address(place, _login(user) if at else None)
    match = _PARTS.fullmatch(rest)
    if match is None:
        raise ValueError(ALLOWED)
    host, port = match["inner"] if match["host"] is None else match["host"], match["port"]
    bracketed = match["host"] is None
    if not (_NAME.fullmatch(host) or (bracketed and _is_ipv6(host))):
        raise ValueError(ALLOWED)
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError(ALLOWED)
    return Address(host, _login(match["user"]), int(port) if port else None)


def _login(user: str | None) -> str | None:
    if user is not None and not _LOGIN.fullmatch(user):
        raise ValueError(ALLOWED)
    return user


def _is_ipv6(text: str) -> bool:
    address, _, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return "%" not in text or bool(_NAME.fullmatch(zone))
