"""Connecting: name, network, greeting, algorithms, host key, login."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from dataclasses import dataclass
from typing import Any

import paramiko

from ...errors import AuthenticationFailed, ConnectionFailed, HostKeyRefused, KeyFileUnusable
from ...remote import host_keys, raw_ssh
from ...remote.connection import Connection
from ...remote.raw_ssh import Greeting
from ...remote.shell import quote
from ...remote.transport import Transport
from ..examination import Evidence, Examination
from ..finding import Fix
from . import network

GREETS_WITHIN = 5.0  # seconds; looked at only after a login has failed
ASKED_WITHIN = 2.0  # seconds
PATIENCE = 28.0  # seconds for a login that was not answered in ssh.connect_timeout
SLOW_LOGIN = 5.0  # seconds
AT_ONCE_SECONDS = 1.5  # a neighbour that is not there is waited for longer (ARP: three tries, a second apart)
NOTICED_WITHIN = 1.5  # seconds until the end of a connection has come back
IGNORED = 32_768  # bytes of padding
PINGS = 3
# What a server, or a wrapper in front of it, says in place of a greeting when it does not want more of us.
TURNED_AWAY = ("maxstartups", "not allowed at this time", "too many", "refused", "denied", "try again")


def login(e: Examination) -> None:
    """Log in, through jump hosts where there are some; on failure find out what it was."""
    for hop in _hops(e.connection):
        heard = _Log(hop)
        started = time.monotonic()
        try:
            hop.open()
        except ConnectionFailed as error:
            took = time.monotonic() - started
            started = time.monotonic()
            if not _waited_longer(e, hop, error):
                _explain(e, _Failure(hop, error, took, heard.lines, hop is not e.connection))
                return
        e.since = time.monotonic()
        _note_slowness(e, hop, e.since - started)
    _describe(e)
    e.grant("connection")


@dataclass(frozen=True)
class _Failure:
    """A connection that could not be made. took: seconds. heard: what paramiko logged. jumping: it is to a
    jump host.
    """

    hop: Connection
    error: ConnectionFailed
    took: float
    heard: list[str]
    jumping: bool

    @property
    def farewell(self) -> str:
        """The server's last words, "" where it had none."""
        return next((line for line in self.heard if line.startswith("Disconnect (code")), "")


def _waited_longer(e: Examination, hop: Connection, error: ConnectionFailed) -> bool:
    """Whether a login that was not answered in time is, when it is given more: PAM may take its time."""
    if error.stage != "login" or error.cause != "silent":
        return False
    patient = e.left(PATIENCE)
    with contextlib.suppress(ConnectionFailed):
        hop.connect_timeout = hop.connect_kwargs["auth_timeout"] = patient
        hop.open()
        return True
    return False


def _note_slowness(e: Examination, hop: Connection, took: float) -> None:
    e.facts["login"] = f"{took:.2f} s"
    if took < SLOW_LOGIN:
        return
    e.warn(
        "slow-login", f"The login at {hop.host} takes {took:.0f} s.",
        f"from the first packet to the answer {took:.1f} s passed; ssh.connect_timeout is "
        f"{hop.rules.connect_timeout:g} s for each stage",
        "Something that the login runs through is slow: PAM (LDAP, a directory that does not answer), "
        "the name of this "
        "machine's address (UseDNS), or the host is overloaded. Each reconnection pays it again. Give "
        "it time:",
        Fix("config.yaml", "ssh: {connect_timeout: 30}"), seconds=round(took, 2),
    )  # fmt: skip


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
    e.ok("auth-failed", "", login_seconds=e.facts["login"])


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


def _explain(e: Examination, f: _Failure) -> None:
    """Name what it was, by what is known of it; what nothing here knows is unexplained."""
    error, hop = f.error, f.hop
    if isinstance(error, HostKeyRefused):
        _host_key(e, hop, error)
    elif isinstance(error, KeyFileUnusable):
        _key_file(e, error)
    elif isinstance(error, AuthenticationFailed):
        _refused(e, f)
    elif hop.proxy_command and error.stage in ("tcp", "greeting"):
        _proxy_command(e, f)
    elif (
        (f.jumping and error.stage in ("tcp", "greeting"))
        or error.cause == "forbidden"
        or (isinstance(hop.gateway, Connection) and error.stage == "tcp")
    ):
        _jump(e, f)
    elif error.cause in ("no such name", "resolver"):
        _dns(e, hop, error)
    elif error.cause == "incompatible":
        _kex(e, hop, error.__cause__ or error)
    elif error.stage == "tcp":
        _tcp(e, f)
    elif error.stage == "greeting":
        _greeting(e, hop, _look(hop), error)
    else:
        _broken_off(e, f)


def _key_file(e: Examination, error: KeyFileUnusable) -> None:
    e.fail(
        "key-file", error.what, error.why, error.hint,
        Fix("here", f"chmod 600 {quote(error.path)}") if error.problem == "open" else None,
        path=error.path, problem=error.problem,
    )  # fmt: skip


def _refused(e: Examination, f: _Failure) -> None:
    error = f.error
    assert isinstance(error, AuthenticationFailed)
    said = f"{f.farewell} {error.why}".lower()
    if error.partial:
        e.fail(
            "second-factor", f"{f.hop.host} takes the key, and wants {' or '.join(error.methods)} besides.",
            error.why, error.hint, Fix("sshd_config", "AuthenticationMethods publickey"),
            wanted=list(error.methods), offered=list(error.offered),
        )  # fmt: skip
    elif "too many" in said:
        _too_many(e, f)
    elif "account" in said or "expired" in said or "closed" in said:
        _hung_up(e, f)
    else:
        _login(e, f)


def _proxy_command(e: Examination, f: _Failure) -> None:
    e.fail(
        "proxy-command", f"The ProxyCommand for {f.hop.host} does not connect.",
        f"{f.hop.proxy_command}: {f.error.why}",
        "It stands in ssh_config. Run it by hand: what it prints first has to be the server's greeting, "
        "SSH-2.0-…",
        command=f.hop.proxy_command, cause=f.error.cause, seconds=round(f.took, 2),
    )  # fmt: skip


# RFC 4254, section 5.1: why a jump host opens no channel to the next one.
_CODES = {
    1: ("it forbids forwarding", Fix("sshd_config", "AllowTcpForwarding yes")),
    2: ("it can't reach it: the name does not resolve there, or nothing listens", None),
    3: ("it does not know forwarding", None),
    4: ("it has no resources left", None),
}


def _jump(e: Examination, f: _Failure) -> None:
    cause = f.error.__cause__
    code = cause.code if isinstance(cause, paramiko.ChannelException) else 0
    through = f.hop if f.jumping or not isinstance(f.hop.gateway, Connection) else f.hop.gateway
    if code:
        why, fix = _CODES.get(code, (f"code {code}", None))
        what = f"The jump host {through.host} does not pass the connection on to {f.hop.host}: {why}."
    else:
        fix, what = None, f"The jump host {through.host} can't be reached."
    e.fail(
        "jump", what, f.error.why,
        f"Try the way by hand: ssh {through.user}@{through.host} -p {through.port}, and from there to "
        "the next. The "
        "jump host's sshd_config decides about forwarding (AllowTcpForwarding, PermitOpen, "
        "DisableForwarding).",
        fix, hop=through.host, target=f.hop.host, code=code, cause=f.error.cause, stage=f.error.stage,
    )  # fmt: skip


def _broken_off(e: Examination, f: _Failure) -> None:
    """It was greeted, and did not get through the key exchange or the login, without a word of refusal."""
    hop, error = f.hop, f.error
    if (
        error.cause == "silent"
        and hop.gateway is None
        and network.small_segments_greet(hop.host, int(hop.port))
    ) and (error.stage == "key exchange" or network.small_segments_carry(e)):
        network.large_packets_vanish(e, error.why, stage=error.stage)
        return
    if not carries(hop):
        e.fail(
            "link-cut", f"The connection to {hop.host} breaks off in the {error.stage}.",
            f"{error.why}; one more, that carried {IGNORED // 1024} kB of padding before a login, broke "
            "off as well",
            "Whatever the account is: something on the way ends connections that carry more than a "
            "little, or the host "
            "does. Try from another network; the host's log says whether sshd has ended it.",
            stage=error.stage, cause=error.cause, seconds=round(f.took, 2),
        )  # fmt: skip
    elif error.stage == "login" and error.cause in ("ended", "reset"):
        _hung_up(e, f)
    else:
        e.unexplained(
            error.stage, error.why, cause=error.cause, seconds=round(f.took, 2), log=f.heard[-8:],
            excluded="the network carries padding of the same size before a login",
        )  # fmt: skip


def carries(hop: Connection) -> bool:
    """Whether a fresh connection, without a login, survives the keys and some padding."""
    try:
        transport = Transport(_dial(hop))
        try:
            transport.exchange_keys(hop.rules.connect_timeout)
            for _ in range(IGNORED // 4096):
                transport.send_ignore(4096)
            until = time.monotonic() + NOTICED_WITHIN
            while transport.is_active() and time.monotonic() < until:
                time.sleep(0.05)
            return bool(transport.is_active())
        finally:
            transport.close()
    except (OSError, EOFError, paramiko.SSHException):
        return False


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


def _dns(e: Examination, hop: Connection, error: ConnectionFailed) -> None:
    e.fail(
        "dns", f"The name {hop.host} does not resolve.", error.why,
        "Check the spelling. If the name is right, this machine's DNS does not know it: try another "
        "resolver or network, or give the address with -H.",
        name=hop.host, cause=error.cause,
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


def _too_many(e: Examination, f: _Failure) -> None:
    tried = _tried(f.heard)
    e.fail(
        "auth-too-many",
        f"{f.hop.host} hung up before the right key had its turn.",
        f"{f.farewell or f.error.why}; {tried} keys were offered",
        "Name the one key: fab -i KEYFILE (or IdentitiesOnly yes and IdentityFile in ~/.ssh/config). The "
        "keys of an agent and all of ~/.ssh/id_* are offered first otherwise. Or have the limit raised.",
        Fix("sshd_config", f"MaxAuthTries {max(tried + 2, 6)}"),
        tried=tried, server_said=f.farewell, log=f.heard[-6:],
    )  # fmt: skip


def _tried(heard: list[str]) -> int:
    return max(1, sum("Trying" in line or "Adding public key" in line for line in heard))


def _login(e: Examination, f: _Failure) -> None:
    """The server has said no, and never says why: list what it can mean, the likeliest first."""
    hop, error = f.hop, f.error
    assert isinstance(error, AuthenticationFailed)
    causes = [
        "the key that was offered is not in the account's ~/.ssh/authorized_keys (sshd's log: Failed "
        "publickey)",
        f"there is no account {hop.user} there (Invalid user)",
        "~/.ssh, its files or the home can be written by others (Authentication refused: bad ownership "
        "or modes)",
        'the key\'s line there says from="…" and this address is another (not permitted host)',
        "AllowUsers, DenyUsers or AllowGroups leave the account out (not allowed because not listed)",
        "the account is locked (account is locked)",
    ]
    if hop.user == "root":
        causes.insert(0, "PermitRootLogin is no (ROOT LOGIN REFUSED)")
    e.fail(
        "auth-failed", error.what, error.why,
        f"{error.hint}\nA refusal can mean, and the server's log (journalctl -u ssh) says which:\n- "
        + "\n- ".join(causes),
        Fix("here", f"ssh-copy-id -p {hop.port} {hop.user}@{hop.host}"),
        methods=list(error.methods), tried=_tried(f.heard), server_said=f.farewell, log=f.heard[-6:],
    )  # fmt: skip


def _hung_up(e: Examination, f: _Failure) -> None:
    e.fail(
        "account",
        f"{f.hop.host} hung up on {f.hop.user} in the middle of the login.",
        f.farewell or f.error.why,
        "So does sshd when the account has expired or may not log in (PAM), whatever the key. Ask whoever "
        "runs the host for the account's state.",
        Fix("host", f"chage -E -1 {f.hop.user}"), server_said=f.farewell,
    )  # fmt: skip


def _tcp(e: Examination, f: _Failure) -> None:
    hop, error = f.hop, f.error
    where = f"{hop.host}, port {hop.port}"
    evidence: Evidence = {
        "host": hop.host,
        "port": hop.port,
        "seconds": round(f.took, 2),
        "cause": error.cause,
    }
    if error.cause == "refused":
        e.fail(
            "tcp-refused", f"Nothing listens at {where}.", f"refused at once ({error.why})",
            "Is sshd running there, and on this port? Hosting companies often use another one: -H "
            "user@host:port. A firewall that rejects looks the same.", **evidence,
        )  # fmt: skip
    elif error.cause == "unreachable" and f.took > AT_ONCE_SECONDS:
        e.fail(
            "host-unreachable", f"The network knows no way to {hop.host}.", error.why,
            "The host is down, or this machine is not in its network (VPN?).", **evidence,
        )  # fmt: skip
    elif error.cause == "unreachable" and _has_route(hop):
        e.fail(
            "tcp-filtered", f"A firewall refuses the connection to {where}.",
            f"{error.why}: at once, and there is a route. A host that is down is not told of so soon",
            "Something on the way rejects it (ICMP: administratively prohibited). Ask whoever runs it "
            "to let this "
            "machine's address through, or try another network.", **evidence,
        )  # fmt: skip
    elif error.cause == "unreachable":
        e.fail(
            "host-unreachable", f"This machine knows no way to {hop.host}.", error.why,
            "It is not in that network (a VPN that is down?).", **evidence,
        )  # fmt: skip
    elif error.cause == "silent":
        e.fail(
            "tcp-filtered", f"{where} answers nothing at all.",
            f"no answer to a connection within {hop.rules.connect_timeout:g} s, neither yes nor no",
            "A firewall swallows the packets (a host that is up and has no sshd would refuse). Ask whoever "
            "runs it to let this machine's address through, or try another network.", **evidence,
        )  # fmt: skip
    else:
        e.unexplained("tcp", error.why, **evidence)


def _has_route(hop: Connection) -> bool:
    """Whether this machine's kernel knows where to send packets for it; none is sent."""
    with contextlib.suppress(OSError):
        family, _, _, _, address = socket.getaddrinfo(hop.host, int(hop.port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            return True
    return False


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
        return raw_ssh.greeting(sock, min(GREETS_WITHIN, hop.rules.connect_timeout), offers=offers)
    finally:
        sock.close()


def _greeting(e: Examination, hop: Connection, seen: Greeting, error: ConnectionFailed) -> None:
    where = f"{hop.host}, port {hop.port},"
    asked = b"" if seen.text or seen.closed else _asked(hop)
    text = (seen.text or asked).decode("utf-8", "replace").strip()[:300]
    evidence: Evidence = {
        "first_bytes": text, "seconds": round(seen.seconds, 2), "closed": seen.closed, "cause": error.cause
    }  # fmt: skip
    if seen.error is not None:
        e.fail(
            "rate-limited", f"{where} takes one connection, and not the next.",
            f"{error.why}; a second one a moment later: {seen.error}",
            "A firewall or sshd rations new connections from one address. Wait a minute, and deploy "
            "from fewer "
            "machines at once.", **evidence,
        )  # fmt: skip
    elif spoken := _other_protocol(seen.text or asked):
        e.fail(
            "not-ssh", f"What answers at {where} is {spoken}, not an SSH server.", f"it says: {text}",
            "The port belongs to something else. Give the right one: -H user@host:port.",
            speaks=spoken, **evidence,
        )  # fmt: skip
    elif b"SSH-" in seen.text or (seen.closed and not text) or any(w in text.lower() for w in TURNED_AWAY):
        e.fail(
            "banner-refused",
            f"{where} takes the connection and turns it away before a login.",
            f"it says: {text}" if text and "SSH-" not in text else _turned_away(seen, error),
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
            f"no greeting within {seen.seconds:.0f} s, and no answer to a greeting of ours",
            "The host is overloaded or hangs, or a proxy or firewall accepts in its place.", **evidence,
        )  # fmt: skip


def _asked(hop: Connection) -> bytes:
    """What a server that waits for us to speak first says to something that is no request of its own."""
    with (
        contextlib.suppress(OSError, EOFError, paramiko.SSHException),
        contextlib.closing(_dial(hop)) as sock,
    ):
        sock.settimeout(ASKED_WITHIN)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return bytes(sock.recv(300))
    return b""


def _other_protocol(data: bytes) -> str:
    """What is spoken there, as far as the first bytes show."""
    if data.startswith(b"HTTP/") or b"400 Bad Request" in data:
        return "a web server (HTTP)"
    if data[:2] in (b"\x15\x03", b"\x16\x03"):
        return "a TLS server (HTTPS, perhaps)"
    return ""


def _turned_away(seen: Greeting, error: ConnectionFailed) -> str:
    if b"SSH-" in seen.text:
        return f"the first connection: {error.why}; a second one was greeted"
    return f"the connection was closed after {seen.seconds:.2f} s, without a word"


def _limit(text: str) -> str:
    return "PerSourcePenalties no" if "not allowed" in text.lower() else "MaxStartups 100:30:200"
