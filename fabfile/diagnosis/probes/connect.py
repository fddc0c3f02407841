"""Connecting: name, network, greeting, algorithms, host key, login."""

from __future__ import annotations

import errno
import logging
import socket
import time
from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer, NoValidConnectionsError

from ...errors import AuthenticationFailed, HostKeyRefused, SwitchoverError
from ...remote import bare, host_keys
from ...remote.bare import Greeting
from ...remote.connection import Connection
from ...remote.transport import Transport
from ..examination import Evidence, Examination
from ..finding import Fix

GREETS_WITHIN = 5.0  # seconds; looked at only after a login has failed
PINGS = 5
# What a server, or a wrapper in front of it, says in place of a greeting when it does not want more of us.
TURNED_AWAY = ("maxstartups", "not allowed at this time", "too many", "refused", "denied", "try again")


def login(e: Examination) -> None:
    """Log in, through jump hosts where there are some; on failure find out what it was."""
    for hop in _hops(e.connection):
        heard = _Log(hop)
        started = time.monotonic()
        try:
            hop.open()
        except SwitchoverError as error:
            _explain(e, hop, error, heard.lines)
            return
    e.facts["login"] = f"{time.monotonic() - started:.2f} s"
    _describe(e)
    e.grant("connection")


def _hops(connection: Connection) -> list[Connection]:
    """The connection and its jump hosts, the first to be opened first."""
    before = connection.gateway
    return [*(_hops(before) if isinstance(before, Connection) else []), connection]


def _describe(e: Examination) -> None:
    transport = e.connection.transport
    e.facts["server"] = transport.remote_version.removeprefix("SSH-2.0-")
    key = transport.get_remote_server_key()
    e.facts["host key"] = f"{key.get_name()} {host_keys.fingerprint(key.asbytes())}"
    e.facts["cipher"] = str(transport.remote_cipher)
    sock = transport.sock
    if isinstance(sock, socket.socket):
        e.facts["address"] = str(sock.getpeername()[0])
    took = []
    for _ in range(PINGS):
        started = time.monotonic()
        transport.global_request("keepalive@openssh.com", None, True)
        took.append(time.monotonic() - started)
    e.round_trip = min(took)
    e.facts["round trip"] = f"{e.round_trip * 1000:.0f} ms"
    e.ok("banner-silent", greeting=transport.remote_version)
    e.ok("hostkey-changed", key=e.facts["host key"])
    e.ok("auth-failed", login_seconds=e.facts["login"])


class _Log:
    """What paramiko logs about one connection: the only place where it tells a server's last words."""

    def __init__(self, connection: Connection) -> None:
        self.lines: list[str] = []
        name = f"paramiko.transport.examined.{id(self):x}"
        connection.client.set_log_channel(name)
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)


def _explain(e: Examination, hop: Connection, error: SwitchoverError, heard: list[str]) -> None:
    cause = error.__cause__ or error
    farewell = next((line for line in heard if line.startswith("Disconnect (code")), "")
    if isinstance(error, HostKeyRefused):
        _host_key(e, hop, error)
    elif isinstance(cause, socket.gaierror):
        _dns(e, hop, cause)
    elif isinstance(cause, IncompatiblePeer):
        _kex(e, hop, cause)
    elif "too many" in f"{farewell} {cause}".lower():
        _too_many(e, hop, cause, farewell, heard)
    elif isinstance(error, AuthenticationFailed) or isinstance(cause, paramiko.AuthenticationException):
        _login(e, hop, error, cause, farewell, heard)
    elif isinstance(cause, NoValidConnectionsError):
        _tcp(e, hop, next(iter(cause.errors.values())))
    elif getattr(error, "stage", "") == "login":
        _cut_at_login(e, hop, error, cause, farewell)
    elif isinstance(cause, TimeoutError) and getattr(error, "stage", "") == "tcp":
        _tcp(e, hop, cause)
    else:
        _greeting(e, hop, _look(hop), cause)


def _host_key(e: Examination, hop: Connection, error: HostKeyRefused) -> None:
    if error.reason == "changed":
        e.fail(
            "hostkey-changed", error.what, error.why, error.hint, Fix("here", hop.keys.forget(error.file)),
            known=error.known, shown=error.shown,
        )  # fmt: skip
        if _key_shown(hop) == error.known:
            e.fail(
                "server-varies", "Two connections in a row reached two different servers.",
                f"the first one showed {error.shown}, the second the key that {error.file} knows",
                "A load balancer, or a name with several addresses. Deploy to each server by its own name "
                "or address: -H web1,web2 makes them one deployment.",
                keys=[error.shown, error.known],
            )  # fmt: skip
        return
    e.fail(
        "hostkey-unknown", error.what, error.why, error.hint,
        Fix("config.yaml", "ssh: {host_keys: accept-new}"), known_hosts=str(hop.keys.file),
    )  # fmt: skip


def _key_shown(hop: Connection) -> str | None:
    """The fingerprint of the host key that one more connection meets; None where there is none."""
    try:
        transport = Transport(_dial(hop))
        try:
            transport.exchange_keys(hop.rules.connect_timeout)
            return host_keys.fingerprint(transport.shown)
        finally:
            transport.close()
    except (OSError, EOFError, paramiko.SSHException):
        return None


def _dns(e: Examination, hop: Connection, cause: socket.gaierror) -> None:
    e.fail(
        "dns",
        f"The name {hop.host} does not resolve.",
        f"{cause.strerror} (getaddrinfo, {cause.errno})",
        "Check the spelling. If the name is right, this machine's DNS does not know it: try another "
        "resolver or network, or give the address with -H.",
        name=hop.host, error=cause.strerror,
    )  # fmt: skip


# Kind: sshd's keyword, what paramiko takes, and one of these that every OpenSSH since 6.5 knows.
ALGORITHMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "kex": ("KexAlgorithms", paramiko.Transport._preferred_kex, "curve25519-sha256@libssh.org"),
    "host key": ("HostKeyAlgorithms", paramiko.Transport._preferred_keys, "ssh-ed25519"),
    "cipher": ("Ciphers", paramiko.Transport._preferred_ciphers, "aes128-ctr"),
    "mac": ("MACs", paramiko.Transport._preferred_macs, "hmac-sha2-256"),
}


def _kex(e: Examination, hop: Connection, cause: BaseException) -> None:
    offers = _look(hop, offers=True).offers
    apart = [kind for kind, theirs in offers.items() if not set(theirs) & set(ALGORITHMS[kind][1])]
    kind = apart[0] if apart else "kex"
    keyword, ours, wanted = ALGORITHMS[kind]
    e.fail(
        "kex-mismatch",
        f"{hop.host} and Switchover have no {kind} algorithm in common.",
        f"{cause}; the server offers {', '.join(offers.get(kind, ['?']))}",
        "The server is too old, or hardened against all that we know: have one of ours allowed there.",
        Fix("sshd_config", f"{keyword} +{wanted}"),
        kind=kind, server=offers.get(kind, []), ours=list(ours),
    )  # fmt: skip


def _too_many(e: Examination, hop: Connection, cause: BaseException, farewell: str, heard: list[str]) -> None:
    tried = _tried(heard)
    e.fail(
        "auth-too-many",
        f"{hop.host} hung up before the right key had its turn.",
        f"{farewell or cause}; {tried} keys were offered",
        "Name the one key: fab -i KEYFILE (or IdentitiesOnly yes and IdentityFile in ~/.ssh/config). The "
        "keys of an agent and all of ~/.ssh/id_* are offered first otherwise. Or have the limit raised.",
        Fix("sshd_config", f"MaxAuthTries {max(tried + 2, 6)}"),
        tried=tried, server_said=farewell, log=heard[-6:],
    )  # fmt: skip


def _tried(heard: list[str]) -> int:
    return max(1, sum("Trying" in line or "Adding public key" in line for line in heard))


def _login(
    e: Examination, hop: Connection, error: SwitchoverError, cause: BaseException, said: str, heard: list[str]
) -> None:
    if "account" in said.lower() or "expired" in said.lower():
        _cut_at_login(e, hop, error, cause, said)
        return
    e.fail(
        "auth-failed", error.what, error.why,
        f"{error.hint} The server does not say which of these it is: a wrong key, an unknown user, a "
        "folder that others can write, or a locked account. Its log does (journalctl -u ssh).",
        Fix("here", f"ssh-copy-id -p {hop.port} {hop.user}@{hop.host}"),
        methods=list(getattr(error, "methods", ())), tried=_tried(heard), server_said=said, log=heard[-6:],
    )  # fmt: skip


def _cut_at_login(
    e: Examination, hop: Connection, error: SwitchoverError, cause: BaseException, farewell: str
) -> None:
    if isinstance(cause, TimeoutError):
        e.fail("auth-failed", f"{hop.host} does not answer the login.", error.why, error.hint)
        return
    e.fail(
        "account",
        f"{hop.host} hung up on {hop.user} in the middle of the login.",
        farewell or error.why,
        "So does sshd when the account has expired or may not log in (PAM), whatever the key. Ask whoever "
        "runs the host for the account's state.",
        Fix("host", f"chage -E -1 {hop.user}"), server_said=farewell,
    )  # fmt: skip


UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)


def _tcp(e: Examination, hop: Connection, error: OSError) -> None:
    where = f"{hop.host}, port {hop.port}"
    evidence: Evidence = {"host": hop.host, "port": hop.port, "errno": error.errno}
    if error.errno == errno.ECONNREFUSED:
        e.fail(
            "tcp-refused", f"Nothing listens at {where}.", "the connection was refused at once",
            "Is sshd running there, and on this port? Hosting companies often use another one: -H "
            "user@host:port. A firewall that rejects looks the same.", **evidence,
        )  # fmt: skip
    elif error.errno in UNREACHABLE:
        e.fail(
            "host-unreachable", f"The network knows no way to {hop.host}.", str(error),
            "The host is down, or this machine is not in its network (VPN?).", **evidence,
        )  # fmt: skip
    else:
        seconds = hop.rules.connect_timeout
        e.fail(
            "tcp-filtered", f"{where} answers nothing at all.",
            f"no answer to a connection within {seconds:g} s, neither yes nor no",
            "A firewall swallows the packets (a host that is up and has no sshd would refuse). Ask whoever "
            "runs it to let this machine's address through, or try another network.",
            waited=seconds, **evidence,
        )  # fmt: skip


def _dial(hop: Connection) -> Any:
    """A socket to the host, or a channel through its jump host. Raises OSError, SSHException."""
    timeout = hop.rules.connect_timeout
    if isinstance(hop.gateway, Connection):
        there, here = (hop.host, hop.port), ("127.0.0.1", 0)
        return hop.gateway.transport.open_channel("direct-tcpip", there, here, timeout=timeout)
    return socket.create_connection((hop.host, hop.port), timeout)


def _look(hop: Connection, *, offers: bool = False) -> Greeting:
    """One more connection, raw: more would make sshd think that we attack it."""
    started = time.monotonic()
    try:
        sock = _dial(hop)
    except (OSError, paramiko.SSHException) as error:
        told = error if isinstance(error, OSError) else OSError(errno.ECONNREFUSED, str(error))
        return Greeting(told, b"", True, time.monotonic() - started, {})
    try:
        return bare.greeting(sock, min(GREETS_WITHIN, hop.rules.connect_timeout), offers=offers)
    finally:
        sock.close()


def _greeting(e: Examination, hop: Connection, seen: Greeting, cause: BaseException) -> None:
    where = f"{hop.host}, port {hop.port},"
    text = seen.text.decode("utf-8", "replace").strip()[:300]
    evidence: Evidence = {"first_bytes": text, "seconds": round(seen.seconds, 2), "closed": seen.closed}
    if seen.error is not None:
        _tcp(e, hop, seen.error)
    elif b"SSH-" in seen.text or (seen.closed and not text) or any(w in text.lower() for w in TURNED_AWAY):
        e.fail(
            "banner-refused",
            f"{where} takes the connection and turns it away before a login.",
            f"it says: {text}" if text and "SSH-" not in text else _turned_away(seen, cause),
            "sshd does so when too many logins are under way (MaxStartups), after failed ones from this "
            "address (PerSourcePenalties, fail2ban), or by /etc/hosts.deny. Wait a minute, then try again; "
            "deploy from fewer machines at once, or have the limits raised.",
            Fix("sshd_config", _limit(text)), **evidence,
        )  # fmt: skip
    elif text:
        e.fail(
            "not-ssh", f"What answers at {where} is not an SSH server.", f"it says: {text}",
            "The port belongs to something else. Give the right one: -H user@host:port.", **evidence,
        )  # fmt: skip
    else:
        e.fail(
            "banner-silent", f"{where} takes the connection and says nothing.",
            f"no greeting within {seen.seconds:.0f} s",
            "The host is overloaded or hangs, a proxy or firewall accepts for it, or the port expects us "
            "to speak first (TLS, HTTP).", **evidence,
        )  # fmt: skip


def _turned_away(seen: Greeting, cause: BaseException) -> str:
    if b"SSH-" in seen.text:
        return f"the first connection ended with: {cause}; a second one was greeted"
    return f"the connection was closed after {seen.seconds:.2f} s, without a word"


def _limit(text: str) -> str:
    return "PerSourcePenalties no" if "not allowed" in text.lower() else "MaxStartups 100:30:200"
