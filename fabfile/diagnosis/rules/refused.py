"""A login that was refused: what it can mean on this server, and which line of its log decides it.

sshd gives the client no reason, whatever the cause is. So the causes are listed, the likeliest first, each
with what speaks for it; the words in the log are those of OpenSSH's auth.c and auth2-pubkey.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import AuthenticationFailed, KeyFileUnusable
from ...remote.shell import quote
from ..case import Case
from ..finding import Fix


@dataclass(frozen=True)
class Refusal:
    """heard: what paramiko logged. farewell: the server's last words. named_user: the user was given, not
    taken from this machine. known_before: the host's key was known already.
    """

    host: str
    port: int
    user: str
    error: AuthenticationFailed
    heard: list[str]
    farewell: str
    named_user: bool = True
    known_before: bool = False

    @property
    def tried(self) -> int:
        """How many keys were offered."""
        return max(1, sum("Trying" in line or "Adding public key" in line for line in self.heard))


@dataclass(frozen=True)
class Cause:
    """Something that a refusal can mean. weight: the likelier, the higher. log: what the server's log says of
    it. cure: what mends it.
    """

    weight: int
    what: str
    log: str
    cure: str = ""
    speaks: str = ""

    def __str__(self) -> str:
        speaks = f" (speaks for it: {self.speaks})" if self.speaks else ""
        cure = f" Cure: {self.cure}" if self.cure else ""
        return f"- {self.what}{speaks}. In the log: “{self.log}”.{cure}"


def key_file_fix(error: KeyFileUnusable) -> Fix | None:
    """The command that makes a key file fit for use."""
    path = quote(error.path)
    changes = {"open": f"chmod 600 {path}", "encrypted": f"ssh-add {path}", "unreadable": f"chmod u+r {path}"}
    change = changes.get(error.problem)
    return Fix("here", change) if change else None


def login(case: Case, refusal: Refusal) -> None:
    """The server has said no: to one factor of two, after too many keys, or to all that was offered."""
    error = refusal.error
    said = f"{refusal.farewell} {error.farewell}".lower()
    if error.partial:
        case.fail(
            "second-factor",
            f"No login: {refusal.host} takes the key, and wants {' or '.join(error.methods)} besides.",
            error.why, error.hint, Fix("sshd_config", "AuthenticationMethods publickey"),
            wanted=list(error.methods), offered=list(error.offered),
        )  # fmt: skip
    elif "too many" in said:
        _too_many(case, refusal)
    elif "account" in said or "expired" in said or "closed" in said:
        hung_up(case, refusal.host, refusal.user, refusal.farewell or error.why)
    else:
        _refused(case, refusal)


def _too_many(case: Case, refusal: Refusal) -> None:
    tried = refusal.tried
    case.fail(
        "auth-too-many", f"No login: {refusal.host} hung up before the right key had its turn.",
        f"{refusal.farewell or refusal.error.why}; {tried} keys were offered",
        "Name the one key: fab -i KEYFILE (or IdentitiesOnly yes and IdentityFile in ~/.ssh/config). The "
        "keys of an agent and all of ~/.ssh/id_* are offered first otherwise. Or have the limit raised.",
        Fix("sshd_config", f"MaxAuthTries {max(tried + 2, 6)}"),
        tried=tried, server_said=refusal.farewell, log=refusal.heard[-6:],
    )  # fmt: skip


def hung_up(case: Case, host: str, user: str, seen: str, /, **evidence: Any) -> None:
    """It ended the connection where the answer to a login was due, and had let padding through before."""
    case.fail(
        "account", f"No login: {host} hung up on {user} in the middle of it.", seen,
        "So does sshd when the account has expired or may not log in (PAM, /etc/nologin), whatever the key. "
        "Its log says which: “Access denied for user … by PAM account configuration”. Ask whoever runs the "
        "host for the account's state.",
        Fix("host", f"chage -E -1 {quote(user)}"), server_said=seen, **evidence,
    )  # fmt: skip


def _refused(case: Case, refusal: Refusal) -> None:
    error = refusal.error
    causes = sorted(_causes(refusal), key=lambda cause: -cause.weight)
    case.fail(
        "auth-failed", f"No login: {error.what}", error.why,
        "\n".join([
            error.hint,
            f"A refusal can mean the following, the likeliest first; the log of the server says which: "
            f"the lines about {refusal.user} in `journalctl -u ssh` or /var/log/auth.log.",
            *map(str, causes),
        ]),
        Fix("host", f"journalctl -u ssh -u sshd --since -15min | grep -F {quote(refusal.user)}"),
        methods=list(error.methods), tried=refusal.tried, server_said=refusal.farewell,
        log=refusal.heard[-6:], causes=[cause.what for cause in causes],
    )  # fmt: skip


def _causes(refusal: Refusal) -> list[Cause]:
    user, error = refusal.user, refusal.error
    offered = [name for name in error.offered if not name.startswith("the password")]
    copy = f"ssh-copy-id -p {refusal.port} {user}@{refusal.host}"
    keyless = bool(error.methods) and "publickey" not in error.methods
    causes = [
        Cause(
            60 if offered else 10, f"none of the {len(offered) or 'offered'} keys stands in the account's "
            "authorized_keys", f"Failed publickey for {user}", copy,
            f"offered: {', '.join(offered[:3])}" if offered else "",
        ),
        Cause(
            45 if refusal.named_user else 70, f"there is no account {user}", f"Invalid user {user}",
            "-H user@host", "" if refusal.named_user else "no user was named, so this machine's was taken",
        ),
        Cause(
            35, "~/.ssh, its files or the home can be written by others", "bad ownership or modes for",
            "chmod go-w ~ ~/.ssh ~/.ssh/authorized_keys, there",
        ),
        Cause(
            30, "AllowUsers, DenyUsers or AllowGroups leave the account out", f"User {user} from",
            "sshd_config: the line that it names",
        ),
        Cause(
            25, 'the key\'s line says from="…", and this address is another; or its expiry-time is over',
            "not from a permitted host", "correct that line of authorized_keys",
        ),
        Cause(20, "the account is locked, or its login shell is not there", "not allowed because",
              f"usermod -p '*' {user}"),
    ]  # fmt: skip
    if user == "root":
        causes.append(Cause(65, "PermitRootLogin is no", "ROOT LOGIN REFUSED", "log in as another user",
                            "the user is root, and few servers let root in"))  # fmt: skip
    if keyless:
        causes.append(Cause(90, "the server takes no keys for this account", "AuthenticationMethods",
                            "PubkeyAuthentication yes, or fab --prompt-for-login-password",
                            f"it takes only {', '.join(error.methods)}"))  # fmt: skip
    if not offered:
        causes.append(Cause(80, "no key was offered: none was found here", "Connection closed by",
                            "fab -i KEYFILE, or ssh-add", "no -i, no agent, no ~/.ssh/id_*"))  # fmt: skip
    if any("rsa" in line.lower() and ("sha1" in line.lower() or "ssh-rsa" in line) for line in refusal.heard):
        causes.append(Cause(40, "the server takes no RSA keys of this kind any more",
                            "not in PubkeyAcceptedAlgorithms", "make a key: ssh-keygen -t ed25519",
                            "an RSA key was offered"))  # fmt: skip
    return causes
