"""What the first command's answer means: who is in the way of commands, and what the account may use."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...remote.raw_ssh import Said
from ...remote.shell import quote
from ..case import Case
from ..finding import Fix

NOISE_SHOWN = 200  # bytes
SAID_SHOWN = 500  # characters
SLOW_START = 2.0  # seconds beyond a round trip until a command begins
FEW_PROCESSES, FEW_FILES = 24, 32  # what a deployment needs, and some more
FEW_BLOCKS, SMALL_BLOCKS = 1 << 12, 1 << 18  # of 512 bytes: the largest file that may be written
PLAIN_STATUS = 7
PLAIN = f"echo $((6*7)); exit {PLAIN_STATUS}"
PLAIN_SAYS = b"42"
GUARD = "case $- in *i*) ;; *) return ;; esac"  # the first line of a start-up file: only for terminals


@dataclass(frozen=True)
class Startup:
    """What SFTP shows of an account. read: whether it shows anything. shell: the login shell of /etc/passwd,
    or "". lines: by effect, `FILE:LINE: text`.
    """

    read: bool = False
    shell: str = ""
    lines: dict[str, list[str]] = field(default_factory=dict)

    def find(self, *effects: str) -> str:
        """The first lines with one of these effects, for a person."""
        found = [line for effect in effects for line in self.lines.get(effect, [])]
        return "; ".join(found[:3])


@dataclass(frozen=True)
class Refusal:
    """A command of ours that did not run. first: what came of it. plain: what came of PLAIN, the shortest
    command whose answer and status have to be computed. long_plain: the same, as long as ours was.
    sftp: whether SFTP answers: a forced command replaces the built-in server too, a start-up file does not.
    """

    user: str
    first: Said
    plain: Said
    startup: Startup
    sftp: bool
    long_plain: Said | None = None

    @property
    def text(self) -> str:
        return self.first.text[:SAID_SHOWN]

    @property
    def shown(self) -> str:
        first = "no end" if not self.first.ended else f"exit status {self.first.status}"
        plain = "no end" if not self.plain.ended else f"exit status {self.plain.status}"
        return (
            f"{first}, and it said: {self.text or '(nothing)'}; to the command `{PLAIN}` it gave {plain}, "
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
        return self.plain.status == PLAIN_STATUS

    @property
    def told(self) -> bool:
        """Whether its computed answer came back."""
        return PLAIN_SAYS in self.plain.out

    @property
    def echoed(self) -> bool:
        """Whether what came back is the command itself."""
        return "$((6*7))" in self.plain.text or "exec /bin/sh -c" in self.first.text.lower()

    @property
    def shell(self) -> str:
        """The name of the login shell, as far as it is known."""
        return posixpath.basename(self.startup.shell)

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


# What a shell says that can't start a program, or open a file (strerror of EAGAIN, ENOMEM, EMFILE, ENFILE).
_LACKING = re.compile(
    r"cannot fork|can't fork|fork failed|fork: |Resource temporarily unavailable|Cannot allocate memory"
    r"|Too many open files|cannot create pipe|cannot make pipe|failed to map segment|virtual memory exhausted"
    r"|File size limit exceeded|CPU time limit exceeded|out of memory",
    re.I,
)
_NO_SHELL = re.compile(r"(bash|sh): no such file or directory", re.I)
_EXPIRED = re.compile(r"password.*(expired|change|required)|(expired|change|required).*password", re.I | re.S)
_RESTRICTED = ("restricted", "not available", "nologin", "unrecognized command", "account is")
NO_SHELLS = ("false", "true", "nologin", "rbash", "git-shell", "rssh", "scponly", "sftp-server", "lshell")


def lacks_resources(text: str) -> bool:
    """Whether it says that no further program can be started, or no file opened."""
    return bool(_LACKING.search(text))


def sftp_only(case: Case, shown: str, **evidence: Any) -> None:
    """The account has no commands at all."""
    case.missed("command", shown)
    case.fail(
        "sftp-only", "No command of a deployment runs: the account is for SFTP only.", shown,
        "Deployments need a shell. Ask the hosting company for SSH (shell) access; in sshd_config it is "
        "ForceCommand or ChrootDirectory that takes it away.",
        Fix("sshd_config", "ForceCommand none"), **evidence,
    )  # fmt: skip


def _sftp_only(case: Case, r: Refusal) -> None:
    sftp_only(case, r.shown, **r.evidence)


def _limits(case: Case, r: Refusal) -> None:
    few(case, r.user, r.text, [])


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
    return r.shell in NO_SHELLS or any(words in r.text.lower() for words in _RESTRICTED)


def _same_whatever_is_asked(r: Refusal) -> bool:
    return bool(r.text) and not r.ran and r.first.ended


# The first one that fits names who is in the way.
RULES: tuple[tuple[Callable[[Refusal], object], Callable[[Case, Refusal], None]], ...] = (
    (lambda r: lacks_resources(r.text), _limits),
    (lambda r: r.long_plain and r.told and PLAIN_SAYS not in r.long_plain.out, _too_long),
    (lambda r: r.ran and r.told, _restricted),
    (lambda r: r.ran, _startup),
    (lambda r: r.echoed and r.first.status == 0, _forced),
    (_says_sftp, _sftp_only),
    (lambda r: _EXPIRED.search(r.text), _expired),
    (_looks_restricted, _restricted),
    (lambda r: r.guilty and not r.text, _startup),
    (lambda r: not r.first.ended and (r.sftp or not r.text), _startup),
    (_same_whatever_is_asked, _forced),
    (lambda r: r.guilty, _startup),
    (lambda r: r.first.status > 0 and not r.sftp, _restricted),
    (lambda r: r.first.status >= 0, _startup),
)  # fmt: skip


# -- a shell that runs commands --------------------------------------------------------------------------


def few(case: Case, user: str, said: str, values: list[str]) -> None:
    """The host says that it can't start more. values: the lines of `ulimit -a`."""
    case.fail(
        "limits", "Commands fail: the account may not start enough processes, or open enough files.",
        f"the shell says: {said[-300:]}; its limits (ulimit -a): {'; '.join(values) or 'not told'}",
        "Have the limit raised (nproc, nofile in /etc/security/limits.conf, TasksMax or pids.max for a "
        "group), or end what else runs under this account.",
        _raise(user), limits=values, said=said[-300:],
    )  # fmt: skip


def _raise(user: str) -> Fix:
    lines = f"'%s soft nproc 512\\n%s hard nproc 512\\n' {quote(user)} {quote(user)}"
    return Fix("host", f"printf {lines} >> /etc/security/limits.conf")


def limits(case: Case, user: str) -> None:
    """Limits that leave little room; a deployment has a dozen processes at its busiest."""
    keys = ("processes", "open_files", "file_size", "running", "pids")
    numbers = {key: int(value) for key in keys if (value := case.said.get(key, "")).isdigit()}
    room = min(
        [numbers[k] - numbers.get("running", 0) for k in ("processes", "pids") if k in numbers],
        default=FEW_PROCESSES,
    )
    root = case.said.get("uid") == "0" and "pids" not in numbers  # RLIMIT_NPROC does not bind root
    few = [] if root or room >= FEW_PROCESSES else [f"{max(room, 0)} more processes"]
    few += [f"{numbers['open_files']} open files"] if numbers.get("open_files", FEW_FILES) < FEW_FILES else []
    blocks = numbers.get("file_size", SMALL_BLOCKS)
    few += [f"files of {blocks * 512:,} bytes"] if blocks < SMALL_BLOCKS else []
    if not few:
        case.ok("limits", "", **numbers)
        return
    case.judge(
        "warn" if blocks >= FEW_BLOCKS and len(few) == 1 and blocks < SMALL_BLOCKS else "fail",
        "limits", f"Deployments break off: the account may have only {' and '.join(few)}.",
        "; ".join(f"{k}: {v}" for k, v in numbers.items()) + " (ulimit -u, -n, -f in blocks, pids.max)",
        "Have the limits raised: nproc, nofile and fsize in /etc/security/limits.conf, TasksMax for a "
        "service or slice; or take the `ulimit` out of a start-up file.",
        _raise(user), **numbers,
    )  # fmt: skip


def umask(case: Case, user: str, look: Callable[[], Startup]) -> None:
    """What others can do with what the account makes. look: reads the start-up files."""
    said = case.said.get("umask", "")
    if not re.fullmatch(r"[0-7]{1,4}", said):
        case.skip("umask", "the shell does not tell its umask")
        return
    value = int(said, 8)
    if value & 0o700:
        effect = "not even the account itself can use what it makes"
    elif value & 0o005 == 0o005:
        effect = "other accounts, the web server's among them, can't read what it makes"
    else:
        case.ok("umask", umask=said)
        return
    change = "'s/^[[:space:]]*umask .*/umask 022/'" if look().find("sets umask") else "'1i umask 022'"
    case.judge(
        "fail" if value & 0o700 else "warn",
        "umask", f"What hooks and the site write is shut to others: the umask is {said}.",
        f"umask says {said}, in a shell that sshd has started: {effect}",
        "Deployments give what they make the modes of the source. What hooks and the site's own commands "
        "write has this umask: set another in the start-up file, or in the hook (umask 022).",
        Fix("host", f"sed -i {change} ~{user}/.bashrc"), umask=said,
    )  # fmt: skip


def startup(case: Case, user: str, took: float, look: Callable[[], Startup]) -> None:
    """Start-up files that let commands through, and yet do harm. took: seconds of a command."""
    missing = case.said.get("path") != case.said.get(
        "path_used"
    )  # ours, where the account's lacks what we need
    slow = took - 2 * case.round_trip > SLOW_START
    if not missing and not slow:
        case.ok("shell-startup", seconds=round(took, 2))
        return
    seen = look().find(*(["waits"] if slow else ["sets PATH"]))
    what = f"Each command takes {took:.0f} s" if slow else "Hooks find no programs"
    how = "the start-up files take their time" if slow else "the start-up files leave no usable PATH"
    case.warn(
        "shell-startup", f"{what}: {how}.",
        "; ".join([f"PATH is {case.said.get('path') or 'empty'}", f"a command took {took:.1f} s", seen]),
        "A deployment has some ten commands, and hooks get the account's own PATH. Let such lines apply "
        f"only where there is a terminal: {GUARD}.",
        Fix("host", f"sed -i '1i {GUARD}' ~{user}/.bashrc"),
        seconds=round(took, 2), path=case.said.get("path"), lines=seen,
    )  # fmt: skip


def noise(case: Case, printed: bytes) -> None:
    """It prints something before a command's own output."""
    home, shell = case.said.get("home", "~"), posixpath.basename(case.said.get("shell", "sh"))
    file = {"bash": ".bashrc", "zsh": ".zshenv"}.get(shell, ".profile")
    text = printed[:NOISE_SHOWN].decode("utf-8", "replace").strip()
    if "forced" in case.said:
        case.warn(
            "shell-noise", "rsync and SFTP may break: a forced command prints something before it runs ours.",
            f"{len(printed)} bytes: {text!r}; SSH_ORIGINAL_COMMAND is set, so it is not a start-up file",
            "Deployments pass over it. Have the forced command (ForceCommand, or command=\"…\" in "
            "authorized_keys) write its log to stderr or a file.",
            Fix("sshd_config", "ForceCommand none"), bytes=len(printed), text=text, forced=True,
        )  # fmt: skip
        return
    case.warn(
        "shell-noise", "rsync and SFTP may break: the shell prints something before the first command.",
        f"{len(printed)} bytes: {text!r}",
        f"~/{file}, or a file it reads, prints where nobody looks. Deployments pass over it; rsync and an "
        "SFTP server that is started by the shell break on it. Let it end at once where there is no "
        "terminal.",
        Fix("host", f"sed -i '1i {GUARD}' {quote(posixpath.join(home, file))}"),
        bytes=len(printed), text=text,
    )  # fmt: skip


def homeless(case: Case, stderr: bytes) -> None:
    """The home directory is not there."""
    home, user = case.said.get("home", ""), case.said.get("user", "")
    case.warn(
        "home-missing", f"Hooks and SFTP may fail: the home directory {home or '(unnamed)'} is not there.",
        f"the shell starts in {case.said.get('pwd')}; it says: "
        f"{stderr.decode('utf-8', 'replace').strip()[:200]}",
        "Deployments do without it; hooks and SFTP, which starts there, may not.",
        Fix("host", f"mkdir -p {quote(home)} && chown {quote(user)} {quote(home)}"),
        home=home, starts_in=case.said.get("pwd"),
    )  # fmt: skip
