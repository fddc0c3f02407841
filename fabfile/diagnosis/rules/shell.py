"""What the first command's answer means: who is in the way of commands, and what the account may use."""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...remote.raw_ssh import Said
from ...remote.shell import quote
from ..case import Case
from ..finding import Fix
from . import account
from .account import GUARD, Startup

SAID_SHOWN = 500  # characters


@dataclass(frozen=True)
class Plain:
    """The shortest command that proves itself: its answer is to be computed, its status is a chance one."""

    factor: int
    status: int

    @classmethod
    def drawn(cls) -> Plain:
        """One that no server can have ready."""
        return cls(secrets.randbelow(9000) + 1000, secrets.randbelow(90) + 20)

    @property
    def text(self) -> str:
        return f"echo $((7*{self.factor})); exit {self.status}"

    @property
    def answer(self) -> bytes:
        return str(7 * self.factor).encode()


@dataclass(frozen=True)
class Refusal:
    """A command of ours that did not run. first: what came of it. plain: what came of `asked`. long_plain:
    the same, as long as ours was.
    sftp: whether SFTP answers: a forced command replaces the built-in server too, a start-up file does not.
    is_sftp: whether a command is answered by an SFTP server. values: the lines of `ulimit -a`.
    """

    user: str
    first: Said
    asked: Plain
    plain: Said
    startup: Startup
    sftp: bool
    long_plain: Said | None = None
    is_sftp: bool = False
    values: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.first.text[:SAID_SHOWN]

    @property
    def shown(self) -> str:
        first = "no end" if not self.first.ended else f"exit status {self.first.status}"
        plain = "no end" if not self.plain.ended else f"exit status {self.plain.status}"
        return (
            f"{first}, and it said: {self.text or '(nothing)'}; to `{self.asked.text}` it gave {plain}, "
            f"and said: {self.plain.text[:100] or '(nothing)'}"
        )

    @property
    def evidence(self) -> dict[str, Any]:
        return {
            "exit_status": self.first.status, "said": self.text, "seconds": round(self.first.seconds, 2),
            "plain_status": self.plain.status, "plain_said": self.plain.text[:SAID_SHOWN],
            "login_shell": self.startup.shell, "sftp_answers": self.sftp,
        }  # fmt: skip

    @property
    def ran(self) -> bool:
        """Whether the plain command was run: its status came back."""
        return self.plain.status == self.asked.status

    @property
    def told(self) -> bool:
        """Whether its computed answer came back."""
        return self.asked.answer in self.plain.out

    @property
    def echoed(self) -> bool:
        """Whether what came back is the command itself."""
        return "echo $((7*" in self.plain.text or "exec /bin/sh -c" in self.first.text.lower()

    @property
    def shell(self) -> str:
        """The name of the login shell, as far as it is known."""
        return posixpath.basename(self.startup.shell)

    @property
    def killed(self) -> bool:
        """Whether it ended by a signal, without a word."""
        return self.first.ended and self.first.status == -1 and not self.text

    @property
    def guilty(self) -> str:
        """Lines of start-up files that keep commands from running."""
        return self.startup.find("ends the shell", "replaces the shell", "waits", "reads standard input")


def explain(case: Case, refusal: Refusal) -> None:
    """Name who is in the way, by the first rule that fits; what none fits is unexplained."""
    case.missed("command", refusal.shown, refusal.first.seconds)
    for fits, rule in RULES:
        if fits(refusal):
            rule(case, refusal)
            return
    case.unexplained("shell", refusal.shown, **refusal.evidence)


_NO_SHELL = re.compile(r"(bash|sh): no such file or directory", re.I)
_EXPIRED = re.compile(r"password.*(expired|change|required)|(expired|change|required).*password", re.I | re.S)
# How a shell names the line of a start-up file that it complains of.
_START_UP_FILE = re.compile(
    r"(bashrc|bash_profile|profile|zshenv|zshrc|cshrc|kshrc|config\.fish): ?(line )?\d"
)
_RESTRICTED = ("restricted", "not available", "nologin", "unrecognized command", "account is")
# Login shells that run what they are given; any other one may run nothing.
SHELLS = {
    "sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "ksh93", "mksh", "oksh", "yash", "posh", "csh",
    "tcsh", "fish", "nu", "elvish", "xonsh", "pwsh",
}  # fmt: skip


def sftp_only(case: Case, shown: str, **evidence: Any) -> None:
    """The account has no commands at all."""
    case.missed("command", shown)
    case.fail(
        "sftp-only", "No command of a deployment runs: the account is for SFTP only.", shown,
        "Deployments need a shell. Ask the hosting company for SSH (shell) access; in sshd_config it is "
        "ForceCommand or ChrootDirectory that takes it away.",
        Fix("sshd_config", "ForceCommand none"), **evidence,
    )  # fmt: skip


def no_session(case: Case, error: str) -> None:
    """The server opens not even one session channel."""
    case.missed("command", error)
    case.fail(
        "max-sessions", "No command of a deployment runs: the server opens no session at all.", error,
        "It lets connections in for forwarding only. Have sessions allowed for this account.",
        Fix("sshd_config", "MaxSessions 10"), sessions=0, error=error,
    )  # fmt: skip


def _sftp_only(case: Case, r: Refusal) -> None:
    sftp_only(case, r.shown, **r.evidence)


def _limits(case: Case, r: Refusal) -> None:
    account.few(case, r.user, r.text, list(r.values))


def _forced(case: Case, r: Refusal) -> None:
    how = "prints commands instead of running them" if r.echoed and r.first.status == 0 else (
        "runs a command of its own in place of ours"
    )  # fmt: skip
    case.fail(
        "shell-forced", f"No command of a deployment runs: the server {how}.", r.shown,
        "A forced command: ForceCommand in sshd_config, or command=\"…\" before the key in "
        "~/.ssh/authorized_keys. Have it taken away for this key, or use another key.",
        Fix("sshd_config", "ForceCommand none"), **r.evidence,
    )  # fmt: skip


def _expired(case: Case, r: Refusal) -> None:
    case.fail(
        "account", "No command of a deployment runs until the account's password is changed: it has expired.",
        r.shown, "Log in by hand (ssh, with a terminal) and set a new one, or have the expiry lifted.",
        Fix("host", f"chage -d $(date +%F) {quote(r.user)}"), **r.evidence,
    )  # fmt: skip


def _restricted(case: Case, r: Refusal) -> None:
    named = f"; its login shell is {r.startup.shell}" if r.startup.shell else ""
    case.fail(
        "shell-restricted", "No command of a deployment runs: the account's login shell does not take them.",
        f"{r.shown}{named}",
        "It is a restricted one (rbash, nologin, git-shell, /bin/false …). Ask for a real shell: /bin/sh is "
        "enough.",
        Fix("host", f"usermod -s /bin/sh {quote(r.user)}"), **r.evidence,
    )  # fmt: skip


def _startup(case: Case, r: Refusal) -> None:
    if r.ran:
        how = "throw away what commands print"
        proof = (
            r.startup.find("redirects output") or "the status of a command comes back, its output does not"
        )
    else:
        how = "let no command run" if r.first.ended else f"had let none run after {r.first.seconds:.0f} s"
        proof = r.guilty or (
            "SFTP answers, so it is no forced command" if r.sftp else
            "SFTP is not there to read them; a forced command that says nothing would look the same"
        )  # fmt: skip
    case.fail(
        "shell-startup", f"No command of a deployment runs: the account's start-up files {how}.",
        f"{r.shown}; {proof}",
        "~/.bashrc (or another start-up file) runs before each command, also where there is no terminal: "
        "take out what exits, waits, reads, redirects or starts another program there, or let it apply to "
        "terminals only.",
        Fix("host", f"sed -i '1i {GUARD}' ~{r.user}/.bashrc"), lines=proof, **r.evidence,
    )  # fmt: skip


def ends_connections(case: Case, user: str, seen: str) -> None:
    """Each command that the server has accepted ends the whole connection; without one it lives."""
    case.missed("command", seen)
    case.fail(
        "shell-startup", "No command of a deployment runs: each ends the connection as it starts.",
        f"the server accepts the command, and then: {seen}; a connection without one lives on, and carries "
        "as much",
        "A start-up file (~/.bashrc, /etc/profile) or the login shell ends sshd's process for the session "
        "(kill $PPID), or the host's own watchdog does. Look there, by another account or the host's "
        "console, and let such lines apply to terminals only.",
        Fix("host", f"sed -i '1i {GUARD}' ~{user}/.bashrc"), ended=seen,
    )  # fmt: skip


def _too_long(case: Case, r: Refusal) -> None:
    assert r.long_plain is not None
    case.missed("long command", r.shown)
    case.fail(
        "limits", "No command of a deployment runs: the server takes only shorter ones.",
        f"a short command runs; the same with padding gave exit status {r.long_plain.status}, and said: "
        f"{r.long_plain.text[:200] or '(nothing)'}",
        "Something between the request and the shell limits its length: a wrapper (ForceCommand), or the "
        "server. Have the account given commands without it.",
        Fix("sshd_config", "ForceCommand none"), **r.evidence,
    )  # fmt: skip


def _says_sftp(r: Refusal) -> bool:
    return not r.ran and bool("sftp" in r.text.lower() or _NO_SHELL.search(r.text))


def _looks_restricted(r: Refusal) -> bool:
    return any(words in r.text.lower() for words in _RESTRICTED)


def _same_whatever_is_asked(r: Refusal) -> bool:
    return bool(r.text) and not r.ran and r.first.ended


# The first one that fits names who is in the way.
RULES: tuple[tuple[Callable[[Refusal], object], Callable[[Case, Refusal], None]], ...] = (
    (lambda r: account.lacks_resources(r.text) or (r.told and account.tight(r.values)), _limits),
    (lambda r: r.is_sftp, _sftp_only),
    (lambda r: r.long_plain and r.told and r.asked.answer not in r.long_plain.out, _too_long),
    (lambda r: r.ran and r.told, _restricted),
    (lambda r: r.ran, _startup),
    (lambda r: r.echoed and r.first.status == 0, _forced),
    (_says_sftp, _sftp_only),
    (lambda r: _EXPIRED.search(r.text), _expired),
    (lambda r: r.shell and r.shell not in SHELLS, _restricted),
    (lambda r: _START_UP_FILE.search(r.text), _startup),
    (lambda r: r.guilty and (r.sftp or not r.text), _startup),
    (lambda r: r.killed and r.sftp, _startup),
    (_looks_restricted, _restricted),
    (lambda r: not r.first.ended and (r.sftp or not r.text), _startup),
    (_same_whatever_is_asked, _forced),
    (lambda r: r.guilty, _startup),
    (lambda r: r.first.status > 0 and not r.sftp, _restricted),
    (lambda r: r.first.status >= 0, _startup),
)  # fmt: skip


def no_input(case: Case, user: str, seen: str) -> None:
    """Commands run, and what is sent to their standard input does not reach them."""
    forced = "forced" in case.said
    case.fail(
        "shell-forced" if forced else "shell-startup",
        "No upload arrives: what is sent to a command does not reach its standard input.", seen,
        "A forced command (ForceCommand, command=\"…\") runs ours without its input: let it pass it on."
        if forced else "A start-up file has closed or redirected it (exec <…), or reads it to its end.",
        Fix("sshd_config", "ForceCommand none") if forced else
        Fix("host", f"sed -i '1i {GUARD}' ~{user}/.bashrc"),
        forced=forced,
    )  # fmt: skip


def no_status(case: Case, wanted: int, status: int) -> None:
    """A command ends with one status, and another one comes back."""
    case.missed("long command", f"exit status {status} instead of {wanted}")
    case.fail(
        "shell-forced", "Deployments can't tell what failed: the exit status of commands does not come back.",
        f"a command that ends with status {wanted} gave {status}, and all of its output",
        "A forced command (ForceCommand, command=\"…\") or a start-up file (trap … EXIT) runs ours and ends "
        "with a status of its own: let it end with ours.",
        Fix("sshd_config", "ForceCommand none"), wanted=wanted, exit_status=status,
    )  # fmt: skip
