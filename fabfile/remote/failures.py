"""Why a connection could not be made: what was seen, whose fault it is, and whether to try again.

Only a refusal that was spoken is one. A silence, a reset and an end of file are the network's.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

import paramiko
from paramiko.ssh_exception import IncompatiblePeer, NoValidConnectionsError

from ..errors import AuthenticationFailed, ConnectionFailed
from .transport import NotSSH, Transport

# cause -> whether another attempt may help: "never", "later" (not at once, so a first connection does not
# wait for it) or "soon".
CAUSES = {
    "no such name": "later",
    "refused": "later",  # nothing listens
    "unreachable": "later",
    "not ssh": "later",
    "no command": "later",  # the ProxyCommand can't be run
    "forbidden": "never",  # by a jump host
    "incompatible": "never",
    "host key": "never",
    "login refused": "never",
    "told to go": "never",
    "resolver": "soon",
    "silent": "soon",
    "reset": "soon",
    "ended": "soon",
    "too busy": "soon",
    "garbled": "soon",
    "": "soon",
}

_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)
# RFC 4253, section 11.1: reasons with which a server sends somebody away for good.
_GO_AWAY = {1, 7, 8, 14, 15}
_PROTOCOL_ERROR = 2  # OpenSSH's only code for a refusal: too many failures, an account that may not log in
_KEX_FAILED = 3
# What sshd, its penalties or a wrapper say in place of a greeting when they want no more of us for now.
_TURNED_AWAY = (b"maxstartups", b"not allowed at this time", b"too many", b"try again", b"refused")

_LOOK = "Try `ssh -v` from the same machine."
_HINTS = {
    "no such name": "Check the spelling of the host, and the DNS of this machine.",
    "resolver": "The DNS of this machine does not answer. Try another network.",
    "refused": "Check host and port; is sshd running there, and is the host up?",
    "unreachable": "Check host and port; is sshd running there, and is the host up?",
    "not ssh": "The port belongs to something else. Give the right one: -H user@host:port.",
    "no command": "Correct the ProxyCommand in ssh_config.",
    "forbidden": "Have it allowed in the jump host's sshd_config: AllowTcpForwarding, PermitOpen.",
    "incompatible": "The server is too old, or hardened against all that we know: have one of ours allowed.",
    "told to go": "Ask whoever runs the host.",
    "silent": "A firewall may swallow the packets, the host may be down or overloaded (then raise "
    "ssh.connect_timeout), or no SSH server listens on this port. Try another network.",
    "reset": f"The host or something on the way to it ends connections. {_LOOK}",
    "ended": f"So does a host that has too many logins under way, or has locked this address out. {_LOOK}",
    "too busy": "Wait a minute; deploy from fewer machines at once, or have MaxStartups raised there.",
    "garbled": f"Something answered, but not as an SSH server should. {_LOOK}",
}  # fmt: skip


def worth_another(error: BaseException, *, first: bool) -> bool:
    """Whether to try again: on a first connection, or when one that was there is to be had again."""
    if not isinstance(error, ConnectionFailed):
        return False
    return CAUSES.get(error.cause, "soon") in (("soon",) if first else ("soon", "later"))


@dataclass(frozen=True)
class Attempt:
    """What is known about an attempt that has failed. transport: None where there was none yet.

    where: user@host:port. host: the name that is looked up. seconds: how long the stage has lasted.
    timeout: how long each may. proxy_said: the last words and the status of a ProxyCommand that has ended.
    through_proxy: whether there is one.
    """

    where: str
    host: str
    transport: Transport | None
    seconds: float
    timeout: float
    proxy_said: tuple[int, str] | None = None
    through_proxy: bool = False

    @property
    def stage(self) -> str:
        return self.transport.stage if self.transport else "tcp"

    @property
    def answered(self) -> bool:
        """Whether anything has come from the host. A ProxyCommand takes what we say, whoever is behind it."""
        if self.transport is None:
            return False
        greeted = bool(self.transport.remote_version or self.transport.said_before)
        return greeted or not self.through_proxy


def explain(error: BaseException, attempt: Attempt) -> ConnectionFailed | None:
    """The error that says why, with its fields; None: it is not about the connection."""
    if isinstance(error, ConnectionFailed):
        return error
    if not isinstance(error, paramiko.SSHException | EOFError | OSError):
        return None
    farewell = attempt.transport.farewell if attempt.transport else None
    if farewell is not None:
        return _after_a_farewell(farewell, attempt)
    cause, seen = _cause(error, attempt)
    before = attempt.transport.said_before.strip() if attempt.transport else b""
    if before and attempt.stage == "greeting":
        seen += f"; it said: {before[:300].decode('utf-8', 'replace')}"
    if attempt.proxy_said is not None:
        seen += (
            f"; the ProxyCommand ended with status {attempt.proxy_said[0]} {attempt.proxy_said[1]}".rstrip()
        )
        cause = "no command" if attempt.proxy_said[0] in (126, 127) else cause
    why = f"{attempt.stage}: {seen}"
    return ConnectionFailed(
        f"No connection to {attempt.where}.",
        why,
        _HINTS[cause],
        stage=attempt.stage,
        cause=cause,
        answered=attempt.answered,
    )


def _after_a_farewell(farewell: tuple[int, str], attempt: Attempt) -> ConnectionFailed:
    code, words = farewell
    said = f"the server ended the connection, and said: {words.strip()[:300]} (code {code})"
    if attempt.stage == "login" and (code in _GO_AWAY or code == _PROTOCOL_ERROR):
        return AuthenticationFailed(
            f"{attempt.where} refused the login.",
            said,
            "Where it says too many, offer one key only: `fab -i FILE`, or IdentitiesOnly yes in ssh_config. "
            "Else ask whoever runs the host for the account's state.",
            farewell=words,
        )
    cause = "told to go" if code in _GO_AWAY else "incompatible" if code == _KEX_FAILED else "too busy"
    return ConnectionFailed(
        f"No connection to {attempt.where}.",
        f"{attempt.stage}: {said}",
        _HINTS[cause],
        stage=attempt.stage,
        cause=cause,
    )


def _cause(error: BaseException, attempt: Attempt) -> tuple[str, str]:
    """The cause, and what was seen of it."""
    after = f"after {attempt.seconds:.2f} s"
    if isinstance(error, NoValidConnectionsError):
        first = next(iter(error.errors.values()))
        cause = "refused" if first.errno == errno.ECONNREFUSED else "unreachable"
        return cause, "; ".join(sorted({str(each) for each in error.errors.values()}))
    if isinstance(error, socket.gaierror):
        gone = error.errno != socket.EAI_AGAIN
        return (
            "no such name" if gone else "resolver",
            f"the name {attempt.host} does not resolve: {error.strerror}",
        )
    if isinstance(error, paramiko.ChannelException):
        said = f"the jump host says: {error.text} (code {error.code})"
        return {1: "forbidden", 2: "refused"}.get(error.code, "too busy"), said
    if isinstance(error, NotSSH):
        return "not ssh", "what answers is no SSH server"
    if isinstance(error, IncompatiblePeer):
        return "incompatible", str(error)
    if isinstance(error, TimeoutError):
        return "silent", f"no answer within {attempt.timeout:g} s (ssh.connect_timeout)"
    if isinstance(error, EOFError):
        before = attempt.transport.said_before.lower() if attempt.transport else b""
        if before.strip() and attempt.stage == "greeting":
            busy = any(words in before for words in _TURNED_AWAY)
            return "too busy" if busy else "not ssh", f"the connection was closed {after} without a greeting"
        return "ended", f"the connection was closed {after}"
    if isinstance(error, OSError):
        if error.errno == errno.ECONNREFUSED:
            return "refused", str(error)
        cause = "unreachable" if error.errno in _UNREACHABLE else "reset"
        return cause, f"{error.strerror or error} {after}"
    return "garbled", f"{type(error).__name__}: {str(error)[:300]}, {after}"
