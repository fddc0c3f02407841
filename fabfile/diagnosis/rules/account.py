"""What the account may use, and what its start-up files do to commands that run."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...remote.shell import quote
from ..case import Case
from ..finding import Fix

NOISE_SHOWN = 200  # bytes
SLOW_START = 2.0  # seconds beyond a round trip until a command begins
FEW_PROCESSES, FEW_FILES = 24, 32  # what a deployment needs, and some more
LITTLE_CPU = 60  # seconds
SMALL_MEMORY = 512 * 1024  # KiB of address space
FEW_BLOCKS, SMALL_BLOCKS = 1 << 12, 1 << 18  # of 512 bytes: the largest file that may be written
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


# What a shell says that can't start a program, or open a file (strerror of EAGAIN, ENOMEM, EMFILE, ENFILE).
_LACKING = re.compile(
    r"cannot fork|can't fork|fork failed|fork: |Resource temporarily unavailable|Cannot allocate memory"
    r"|Too many open files|cannot create pipe|cannot make pipe|failed to map segment|virtual memory exhausted"
    r"|File size limit exceeded|CPU time limit exceeded|out of memory|Pipe call failed|cannot duplicate fd",
    re.I,
)


def lacks_resources(text: str) -> bool:
    """Whether it says that no further program can be started, or no file opened."""
    return bool(_LACKING.search(text))


# The lines of `ulimit -a`, of bash and of dash, and below which value too little is left of it.
_TIGHT = (
    (re.compile(r"^(?:open files|nofiles).*?(\d+)$"), FEW_FILES),
    (re.compile(r"^(?:max user processes|process).*?(\d+)$"), FEW_PROCESSES),
    (re.compile(r"^(?:cpu time|time).*?(\d+)$"), LITTLE_CPU),
    (re.compile(r"^(?:virtual memory|vmemory|address space).*?(\d+)$"), SMALL_MEMORY),
    (re.compile(r"^(?:file size|file\().*?(\d+)$"), FEW_BLOCKS),
)


def tight(values: Sequence[str]) -> list[str]:
    """Which of these lines of `ulimit -a` leave too little."""
    return [
        line for line in values for pattern, least in _TIGHT
        if (found := pattern.match(line.strip())) and int(found[1]) < least
    ]  # fmt: skip


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
    keys = ("processes", "open_files", "file_size", "memory", "data", "cpu", "running", "pids")
    numbers = {key: int(value) for key in keys if (value := case.said.get(key, "")).isdigit()}
    room = min(
        [numbers[k] - numbers.get("running", 0) for k in ("processes", "pids") if k in numbers],
        default=FEW_PROCESSES,
    )
    root = case.said.get("uid") == "0" and "pids" not in numbers  # RLIMIT_NPROC does not bind root
    few = [] if root or room >= FEW_PROCESSES else [f"{max(room, 0)} more processes"]
    few += [f"{numbers['open_files']} open files"] if numbers.get("open_files", FEW_FILES) < FEW_FILES else []
    blocks = numbers.get("file_size", SMALL_BLOCKS)
    few += [f"{numbers['cpu']} s of CPU"] if numbers.get("cpu", LITTLE_CPU) < LITTLE_CPU else []
    memory = min(numbers.get("memory", SMALL_MEMORY), numbers.get("data", SMALL_MEMORY))
    risky = not few and blocks >= FEW_BLOCKS
    few += [f"files of {blocks * 512:,} bytes"] if blocks < SMALL_BLOCKS else []
    if memory < SMALL_MEMORY:
        few.append(f"{memory / 1024:.0f} MiB of memory a process")
    if not few:
        case.ok("limits", "", **numbers)
        return
    case.judge(
        "warn" if risky else "fail",
        "limits", f"Deployments break off: the account may have only {' and '.join(few)}.",
        "; ".join(f"{k}: {v}" for k, v in numbers.items())
        + " (ulimit -u, -n, -f in blocks, -v and -d in KiB, pids.max)",
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
    # Without the umask the PATH was not told either.
    missing = bool(case.said.get("umask")) and "beyond" in case.said
    slow = took - 2 * case.round_trip > SLOW_START
    if not missing and not slow:
        case.ok("shell-startup", seconds=round(took, 2))
        return
    if slow and "forced" in case.said:
        case.warn(
            "shell-forced", f"Each command takes {took:.0f} s: a forced command takes its time before it.",
            f"a command took {took:.1f} s; SSH_ORIGINAL_COMMAND is set",
            "A deployment has some ten commands. Have the forced command (ForceCommand, command=\"…\") start "
            "ours at once.",
            Fix("sshd_config", "ForceCommand none"), seconds=round(took, 2),
        )  # fmt: skip
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


def merged(case: Case) -> None:
    """stderr comes as stdout."""
    forced = "forced" in case.said
    case.warn(
        "shell-noise", "rsync and SFTP may break: what commands say on stderr comes among their answers.",
        "a mark that a command wrote to stderr came on stdout"
        + ("; SSH_ORIGINAL_COMMAND is set: the forced command does that" if forced else ""),
        "Deployments get by; a warning of a program in the wrong place ends one. "
        + ("Leave `2>&1` out of the forced command (ForceCommand, or command=\"…\" in authorized_keys)."
           if forced else "Leave `exec 2>&1` out of the files that the shell reads as it starts."),
        Fix("sshd_config", "ForceCommand none") if forced else None, forced=forced,
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
