"""Why there is no way in: from what was seen of an attempt, and of the second looks at it, to a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paramiko

from ...errors import AuthenticationFailed, ConnectionFailed, HostKeyRefused, KeyFileUnusable
from ...remote.raw_ssh import Greeting
from ..case import Case
from ..finding import Fix
from . import network, refused, slowness
from .protocols import other_protocol

# Seconds; a neighbour that is not there is waited for longer (ARP: three tries, a second apart).
AT_ONCE = 1.5
PADDING = 12_288  # bytes each way before a login, to see whether so much gets through


@dataclass(frozen=True)
class WayIn:
    """A connection that could not be made, and what was seen of it afterwards.

    host, port, user: of the hop that failed. error: has stage and cause. took: seconds. heard: what paramiko
    logged. through: the jump host that it was dialled through. jumping: it is a jump host itself.
    proxy: the ProxyCommand. forget: the command that forgets the known host key. keys_file: that knows it.

    Of the second looks None means: not looked, or no answer.
    route:    whether this machine knows a way for packets.
    greeting: what one more connection was greeted with. asked: what it says to a request of another protocol.
    offers:   the server's algorithms, by kind.
    carried:  whether padding gets through before a login. small: whether it does in small packets only.
    key:      the fingerprint of the host key that one more connection met.
    """

    host: str
    port: int
    user: str
    timeout: float
    error: ConnectionFailed
    took: float
    heard: list[str] = field(default_factory=list)
    through: str = ""
    jumping: bool = False
    proxy: str = ""
    forget: str = ""
    keys_file: str = ""
    named_user: bool = True
    known_before: bool = False
    route: bool | None = None
    greeting: Greeting | None = None
    asked: bytes = b""
    offers: dict[str, list[str]] = field(default_factory=dict)
    carried: bool | None = None
    small: bool | None = None
    key: str | None = None

    @property
    def where(self) -> str:
        return f"{self.host} (port {self.port})"

    @property
    def evidence(self) -> dict[str, Any]:
        """What each finding says of it."""
        return {
            "host": self.host, "port": self.port, "stage": self.error.stage, "cause": self.error.cause,
            "seconds": round(self.took, 2),
        }  # fmt: skip

    @property
    def farewell(self) -> str:
        """The server's last words, "" where it had none."""
        return next((line for line in self.heard if line.startswith("Disconnect (code")), "")

    @property
    def channel_code(self) -> int:
        """The code with which a jump host has refused to pass the connection on; 0: it did not."""
        cause = self.error.__cause__
        return cause.code if isinstance(cause, paramiko.ChannelException) else 0


def explain(case: Case, way: WayIn) -> None:
    """Add what is wrong: by the first rule that fits; what none fits is unexplained."""
    _note_how_far(case, way)
    for fits, rule in RULES:
        if fits(way):
            rule(case, way)
            return
    excluded = "padding of the same size gets through before a login" if way.carried else "nothing yet"
    case.unexplained(way.error.stage, way.error.why, **way.evidence, log=way.heard[-8:], excluded=excluded)


def _note_how_far(case: Case, way: WayIn) -> None:
    """What was reached before it failed was seen to work."""
    stages = {"tcp": "port", "greeting": "greeting", "key exchange": "keys", "login": "login"}
    for stage, ability in stages.items():
        if stage == (way.error.stage or "tcp"):
            case.missed(ability, way.error.why, way.took)
            return
        case.saw(ability)


# -- this machine ----------------------------------------------------------------------------------------


def _key_file(case: Case, way: WayIn) -> None:
    error = way.error
    assert isinstance(error, KeyFileUnusable)
    case.fail(
        "key-file", f"No login at {way.host} with this key: {error.what}", error.why, error.hint,
        refused.key_file_fix(error), path=error.path, problem=error.problem, **way.evidence,
    )  # fmt: skip


def _dns(case: Case, way: WayIn) -> None:
    again = way.error.cause == "resolver"
    case.fail(
        "dns",
        f"{way.host} can't be reached: this machine's DNS does not answer." if again else
        f"{way.host} can't be reached: the name does not resolve.",
        way.error.why,
        "Check this machine's resolver (/etc/resolv.conf, a VPN), or give the address with -H." if again else
        "Check the spelling. If the name is right, this machine's DNS does not know it: try another "
        "resolver or network, or give the address with -H.",
        name=way.host, **way.evidence,
    )  # fmt: skip


def _proxy_command(case: Case, way: WayIn) -> None:
    case.fail(
        "proxy-command", f"{way.host} can't be reached: its ProxyCommand does not connect.",
        f"{way.proxy}: {way.error.why}",
        "It stands in ssh_config. Run it by hand: what it prints first has to be the server's greeting, "
        "SSH-2.0-…",
        command=way.proxy, **way.evidence,
    )  # fmt: skip


# RFC 4254, section 5.1: why a jump host opens no channel to the next one.
_CODES = {
    1: ("it forbids forwarding", Fix("sshd_config", "AllowTcpForwarding yes")),
    2: ("it can't reach it: the name does not resolve there, or nothing answers", None),
    3: ("it does not know forwarding", None),
    4: ("it has no resources left", None),
}


def _jump(case: Case, way: WayIn) -> None:
    code, through = way.channel_code, way.host if way.jumping else way.through
    if code:
        why, fix = _CODES.get(code, (f"code {code}", None))
        what = f"{way.host} can't be reached: the jump host {through} does not pass the connection on: {why}."
    elif way.jumping:
        fix, what = None, f"The jump host {through} can't be reached."
    else:
        fix, what = None, f"The jump host {through} passes the connection on, and {way.host} does not answer."
    case.fail(
        "jump", what, way.error.why,
        f"Try the way hop by hop: ssh to {through}, and from there to the next. The jump host's sshd_config "
        "decides about forwarding (AllowTcpForwarding, PermitOpen, DisableForwarding).",
        fix, hop=through, target=way.host, code=code, **way.evidence,
    )  # fmt: skip


# -- network ---------------------------------------------------------------------------------------------


def _tcp_refused(case: Case, way: WayIn) -> None:
    case.fail(
        "tcp-refused", f"No connection: nothing listens at {way.where}.",
        f"refused at once ({way.error.why})",
        "Is sshd running there, and on this port? Hosting companies often use another one: -H "
        "user@host:port. A firewall that rejects looks the same.", **way.evidence,
    )  # fmt: skip


def _unreachable(case: Case, way: WayIn) -> None:
    if way.route and way.took <= AT_ONCE:
        case.fail(
            "tcp-filtered", f"No connection: a firewall refuses it, to {way.where}.",
            f"{way.error.why}: at once, and there is a route. A host that is down is not told of so soon",
            "Something on the way rejects it (ICMP: administratively prohibited). Ask whoever runs it to let "
            "this machine's address through, or try another network.", **way.evidence,
        )  # fmt: skip
    else:
        knows = "The network knows" if way.took > AT_ONCE else "This machine knows"
        case.fail(
            "host-unreachable", f"No connection: {knows[0].lower()}{knows[1:]} no way to {way.host}.",
            way.error.why,
            "The host is down, or this machine is not in its network (a VPN that is down?).", **way.evidence,
        )  # fmt: skip


def _silent_port(case: Case, way: WayIn) -> None:
    case.fail(
        "tcp-filtered", f"No connection: {way.where} answers nothing at all.",
        f"no answer to a connection within {way.timeout:g} s, neither yes nor no",
        "A firewall swallows the packets (a host that is up and has no sshd would refuse). Ask whoever runs "
        "it to let this machine's address through, or try another network.", **way.evidence,
    )  # fmt: skip


# -- greeting --------------------------------------------------------------------------------------------

# What a server, or a wrapper in front of it, says in place of a greeting when it wants no more of us.
TURNED_AWAY = ("maxstartups", "not allowed at this time", "too many", "refused", "denied", "try again")


def _greeting(case: Case, way: WayIn) -> None:
    seen = way.greeting
    assert seen is not None
    text = (seen.text or way.asked).decode("utf-8", "replace").strip()[:300]
    evidence = {**way.evidence, "first_bytes": text, "waited": round(seen.seconds, 2), "closed": seen.closed}
    turned_away = any(words in text.lower() for words in TURNED_AWAY)
    if seen.error is not None:
        case.fail(
            "rate-limited", f"Deployments come in by luck: {way.where} takes one connection, not the next.",
            f"{way.error.why}; a second one a moment later: {seen.error}",
            "A firewall or sshd rations new connections from one address. Wait a minute, and deploy from "
            "fewer machines at once.", **evidence,
        )  # fmt: skip
    elif spoken := other_protocol(seen.text or way.asked):
        case.fail(
            "not-ssh", f"No login: what answers at {way.where} is {spoken}, not an SSH server.",
            f"it says: {text!r}",
            "The port belongs to something else. Give the right one: -H user@host:port.",
            speaks=spoken, **evidence,
        )  # fmt: skip
    elif seen.greeted and way.error.cause == "silent" and seen.seconds > way.timeout:
        slowness.greeting(case, way.host, seen.seconds, way.timeout)
    elif seen.greeted or turned_away or (seen.closed and not text):
        _turned_away(case, way, seen, text, evidence)
    elif text.startswith("SSH-") and not seen.closed:
        case.fail(
            "banner-silent", f"No login: {way.where} begins a greeting and does not end it.",
            f"{text!r}, and no more within {seen.seconds:.0f} s",
            "The host is overloaded or hangs, or something on the way swallows what follows.", **evidence,
        )  # fmt: skip
    elif text:
        case.fail(
            "not-ssh", f"No login: what answers at {way.where} is not an SSH server.", f"it says: {text!r}",
            "The port belongs to something else. Give the right one: -H user@host:port.", **evidence,
        )  # fmt: skip
    else:
        case.fail(
            "banner-silent", f"No login: {way.where} takes the connection and says nothing.",
            f"no greeting within {seen.seconds:.0f} s, and no answer to a greeting of ours",
            "The host is overloaded or hangs, or a proxy or firewall accepts in its place.", **evidence,
        )  # fmt: skip


def _turned_away(case: Case, way: WayIn, seen: Greeting, text: str, evidence: dict[str, Any]) -> None:
    if b"SSH-" in seen.text:
        told = f"the first connection: {way.error.why}; a second one was greeted"
    else:
        told = f"it says: {text}" if text else f"closed after {seen.seconds:.2f} s, without a word"
    limit = "PerSourcePenalties no" if "not allowed" in text.lower() else "MaxStartups 100:30:200"
    case.fail(
        "banner-refused", f"No login: {way.where} takes the connection and turns it away before one.", told,
        "sshd does so when too many logins are under way (MaxStartups), after failed ones from this address "
        "(PerSourcePenalties, fail2ban), or by /etc/hosts.deny. Wait a minute, then try again; deploy from "
        "fewer machines at once, or have the limits raised.",
        Fix("sshd_config", limit), **evidence,
    )  # fmt: skip


# -- keys ------------------------------------------------------------------------------------------------

# Kind: sshd's keyword, what paramiko takes, and one of these that every OpenSSH since 6.5 knows.
ALGORITHMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "kex": ("KexAlgorithms", paramiko.Transport._preferred_kex, "curve25519-sha256@libssh.org"),
    "host key": ("HostKeyAlgorithms", paramiko.Transport._preferred_keys, "ssh-ed25519"),
    "cipher": ("Ciphers", paramiko.Transport._preferred_ciphers, "aes128-ctr"),
    "mac": ("MACs", paramiko.Transport._preferred_macs, "hmac-sha2-256"),
}


def _kex(case: Case, way: WayIn) -> None:
    apart = [kind for kind, theirs in way.offers.items() if not set(theirs) & set(ALGORITHMS[kind][1])]
    kind = apart[0] if apart else "kex"
    keyword, ours, wanted = ALGORITHMS[kind]
    theirs = way.offers.get(kind, [])
    case.fail(
        "kex-mismatch", f"No login: {way.host} and Switchover have no {kind} algorithm in common.",
        f"{way.error.__cause__ or way.error}; the server offers {', '.join(theirs) or '?'}",
        "The server is too old, or hardened against all that we know: have one of ours allowed there.",
        Fix("sshd_config", f"{keyword} +{wanted}"), kind=kind, server=theirs, ours=list(ours), **way.evidence,
    )  # fmt: skip


def _host_key(case: Case, way: WayIn) -> None:
    error = way.error
    assert isinstance(error, HostKeyRefused)
    if error.problem != "changed":
        case.fail(
            "hostkey-unknown", f"No login: {error.what}", error.why, error.hint,
            Fix("config.yaml", "ssh: {host_keys: accept-new}"),
            known_hosts=way.keys_file, reason=error.problem,
        )  # fmt: skip
        return
    case.fail(
        "hostkey-changed", f"No login: {error.what}", error.why, error.hint, Fix("here", way.forget),
        known=error.known, shown=error.shown,
    )  # fmt: skip
    if way.key is not None and way.key == error.known:
        case.fail(
            "server-varies", "A deployment would reach now one server, now another.",
            f"the first connection showed {error.shown}, the second the key that {error.file} knows",
            "A load balancer, or a name with several addresses. Deploy to each server by its own name "
            "or address: -H web1,web2 makes them one deployment.",
            keys=[error.shown, error.known],
        )  # fmt: skip


def _garbled(case: Case, way: WayIn) -> None:
    case.fail(
        "not-ssh", f"No login: {way.where} greets as an SSH server, and does not go on as one.",
        f"{way.error.why}; one more connection ended the same way",
        "The port belongs to something else, a honeypot perhaps, or something on the way changes what is "
        "sent. Try another network, and see that the port is the right one: -H user@host:port.",
        **way.evidence,
    )  # fmt: skip


def _swallowed(case: Case, way: WayIn) -> None:
    network.large_packets_vanish(case, way.error.why, **way.evidence)


def _repeats(case: Case, way: WayIn) -> None:
    spoken = other_protocol(way.asked)
    case.fail(
        "not-ssh", f"No login: what answers at {way.where} is {spoken}, not an SSH server.",
        f"asked for a web page, it says: {way.asked[:100]!r}; as an SSH server: {way.error.why}",
        "The port belongs to something else. Give the right one: -H user@host:port.",
        speaks=spoken, **way.evidence,
    )  # fmt: skip


def _cut(case: Case, way: WayIn) -> None:
    case.fail(
        "link-cut", f"No login: the connection to {way.host} breaks off in the {way.error.stage}.",
        f"{way.error.why}; one more, that was to carry {PADDING // 1024} kB each way before a login, broke "
        "off as well",
        "Whatever the account is: something on the way ends connections that carry more than a little, or "
        "the host does. Try from another network; the host's log says whether sshd has ended it.",
        **way.evidence,
    )  # fmt: skip


def _hung_up(case: Case, way: WayIn) -> None:
    refused.hung_up(case, way.host, way.user, way.farewell or way.error.why, **way.evidence)


def _refused(case: Case, way: WayIn) -> None:
    error = way.error
    assert isinstance(error, AuthenticationFailed)
    refused.login(case, refused.Refusal(
        way.host, way.port, way.user, error, way.heard, way.farewell, way.named_user, way.known_before
    ))  # fmt: skip


# -- the rules -------------------------------------------------------------------------------------------


def _before_a_greeting(way: WayIn) -> bool:
    return way.error.stage in ("tcp", "greeting", "")


# The first one that fits names the cause.
RULES: tuple[tuple[Callable[[WayIn], object], Callable[[Case, WayIn], None]], ...] = (
    (lambda w: isinstance(w.error, HostKeyRefused), _host_key),
    (lambda w: isinstance(w.error, KeyFileUnusable), _key_file),
    (lambda w: isinstance(w.error, AuthenticationFailed), _refused),
    (lambda w: w.proxy and _before_a_greeting(w), _proxy_command),
    (lambda w: w.channel_code or (w.jumping and _before_a_greeting(w)), _jump),
    (lambda w: w.through and w.error.stage == "tcp", _jump),
    (lambda w: w.error.cause in ("no such name", "resolver"), _dns),
    (lambda w: w.error.cause == "incompatible", _kex),
    (lambda w: w.error.stage == "tcp" and w.error.cause == "refused", _tcp_refused),
    (lambda w: w.error.stage == "tcp" and w.error.cause == "unreachable", _unreachable),
    (lambda w: w.error.stage == "tcp" and w.error.cause == "silent", _silent_port),
    (lambda w: w.error.stage != "greeting" and other_protocol(w.asked), _repeats),
    (lambda w: w.small, _swallowed),
    (lambda w: w.carried is False and w.error.cause in ("ended", "reset", "silent"), _cut),
    (lambda w: w.error.stage == "greeting" and w.greeting is not None, _greeting),
    (lambda w: w.carried is False and w.error.cause == "garbled", _garbled),
    (lambda w: w.error.stage == "login" and w.error.cause in ("ended", "reset"), _hung_up),
)
