"""The shell: whether it runs what it is given, and says nothing else."""

from __future__ import annotations

import posixpath
import re
import time

import paramiko

from ...remote.connection import LINK_ERRORS
from ...remote.raw_ssh import Said
from ...remote.shell import quote
from ..examination import ANSWER_WITHIN, END, PROBE, Evidence, Examination, Unanswered, lines, read_rows
from ..finding import Fix
from . import second_looks, startup

NOISE_SHOWN = 200  # bytes

HANGS_UP_WITHIN = 3.0  # seconds after the login, where it is the server that does
SLOW_START = 2.0  # seconds beyond a round trip until a command begins
FEW_PROCESSES, FEW_FILES = 24, 32  # what a deployment needs, and some more

# Everything that later probes want to know, asked in one command. $account is the account's own umask and
# environment: see remote.request.
LOOK = r"""
row() { printf '%s\t%s\n' "$1" "$2"; }
row answer $((6*7))
row processes "$(ulimit -u 2>/dev/null || ulimit -p 2>/dev/null)"; row open_files "$(ulimit -n)"
row file_size "$(ulimit -f)"
[ -z "${SSH_ORIGINAL_COMMAND+x}" ] || row forced yes
row user "$(id -un 2>/dev/null || id -u)"; row uid "$(id -u)"
row running "$(ps -u "$(id -u)" -o pid= 2>/dev/null | wc -l)"
row pids "$(cat "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null)/pids.max" 2>/dev/null)"
row pwd "$OLDPWD"
row home "$HOME"; [ -d "$HOME" ] && row home_is dir
row shell "$SHELL"
row machine "$(hostname 2>/dev/null || uname -n)"
row system "$(uname -srm)"
row os "$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
row boot "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
row id "$(cat /etc/machine-id 2>/dev/null)"
row root "$(stat -c %d:%i / 2>/dev/null)"
row clock "$(date +%s)"
row umask "${account%%[!0-7]*}"
row path "$(printf '%s\n' "$account" | sed -n "s/^export PATH=//p" | tr -d "'\"" | head -n 1)"
row path_used "$PATH"
row client "${SSH_CONNECTION%% *}"
row kill "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
  org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)"
"""


def speaks(e: Examination) -> str:
    """Run a command as a deployment does, and look at every byte that comes back."""
    try:
        said = e.ask(LOOK)
    except LINK_ERRORS as error:
        if e.connection.still_alive() and not isinstance(error, TimeoutError) and e.answers():
            _refused(e, error)
            return ""
        soon = time.monotonic() - e.since < HANGS_UP_WITHIN
        if e.connection.alive or not soon or not second_looks.carries(e.connection):
            raise
        _hung_up(e, error)
        return ""
    if not said.started:
        _something_else(e, said)
        return ""
    rows = read_rows(said.out)
    e.said = {key: values[0] for key, values in rows.items()}
    if END not in rows:
        return _cut_short(e, said)
    e.grant("shell")
    for fact in ("user", "machine", "system", "os"):
        if e.said.get(fact):
            e.facts[fact] = e.said[fact]
    e.ok("shell-forced", answered=e.said.get("answer"))
    if said.before:
        _noise(e, said.before)
    _startup(e, said)
    _limits(e)
    _umask(e)
    if "home_is" not in e.said:
        _homeless(e, said)
    return ""


def _cut_short(e: Examination, said: Said) -> str:
    """It began and did not come to its end."""
    if _lacks_resources(said.text):
        _few(e, said)
        return "the host starts no further program"
    raise Unanswered(said, read_rows(said.out))


# What a shell says that can't start a program, or open a file (strerror of EAGAIN, ENOMEM, EMFILE, ENFILE).
_LACKING = re.compile(
    r"cannot fork|can't fork|fork failed|fork: |Resource temporarily unavailable|Cannot allocate memory"
    r"|Too many open files|cannot create pipe|cannot make pipe", re.I,
)  # fmt: skip


def _lacks_resources(text: str) -> bool:
    return bool(_LACKING.search(text))


def _few(e: Examination, said: Said) -> None:
    """The host says that it can't start more; `ulimit` is the shell's own, so it needs no program."""
    told = e.execute("exec /bin/sh -c 'ulimit -a'")
    values = [line.strip() for line in told.out.decode("utf-8", "replace").splitlines()][:20]
    e.fail(
        "limits", "The account may not start enough processes, or open enough files: commands fail.",
        f"the shell says: {said.text[-300:]}; its limits (ulimit -a): {'; '.join(values) or 'not told'}",
        "Have the limit raised (nproc, nofile in /etc/security/limits.conf, TasksMax or pids.max for a "
        "group), or "
        "end what else runs under this account.",
        Fix("host", f"printf '%s soft nproc 512\\n%s hard nproc 512\\n' {e.connection.user} "
            f"{e.connection.user} >> /etc/security/limits.conf"),
        limits=values, said=said.text[-300:],
    )  # fmt: skip


def _limits(e: Examination) -> None:
    """Limits that leave little room; a deployment has a dozen processes at its busiest."""
    numbers = {
        k: int(v)
        for k in ("processes", "open_files", "running", "pids")
        if (v := e.said.get(k, "")).isdigit()
    }
    room = min(
        [numbers[k] - numbers.get("running", 0) for k in ("processes", "pids") if k in numbers],
        default=FEW_PROCESSES,
    )
    root = e.said.get("uid") == "0" and "pids" not in numbers  # RLIMIT_NPROC does not bind root
    few = [] if root or room >= FEW_PROCESSES else [f"{max(room, 0)} more processes"]
    few += [f"{numbers['open_files']} open files"] if numbers.get("open_files", FEW_FILES) < FEW_FILES else []
    if not few:
        e.ok("limits", "", **numbers)
        return
    e.fail(
        "limits", f"The account may have only {' and '.join(few)}: a deployment needs more.",
        "; ".join(f"{k}: {v}" for k, v in numbers.items()) + " (ulimit -u, ulimit -n, pids.max)",
        "Have the limits raised: nproc and nofile in /etc/security/limits.conf, TasksMax for a service "
        "or slice.",
        Fix("host", f"printf '%s soft nproc 512\\n%s hard nproc 512\\n' {e.connection.user} "
            f"{e.connection.user} >> /etc/security/limits.conf"), **numbers,
    )  # fmt: skip


def _umask(e: Examination) -> None:
    said = e.said.get("umask", "")
    if not re.fullmatch(r"[0-7]{1,4}", said):
        e.skip("umask", "the shell does not tell its umask")
        return
    umask = int(said, 8)
    if umask & 0o700:
        status, effect = "fail", "not even the account itself can use what it makes"
    elif umask & 0o005 == 0o005:
        status, effect = "warn", "other accounts, the web server's among them, can't read what it makes"
    else:
        e.ok("umask", umask=said)
        return
    found = startup.look(e).find("sets umask")
    change = "'s/^[[:space:]]*umask .*/umask 022/'" if found else "'1i umask 022'"
    e.judge(
        "fail" if status == "fail" else "warn", "umask", f"The account's umask is {said}: {effect}.",
        f"umask says {said}, in a shell that sshd has started",
        "Deployments give what they make the modes of the source. What hooks and the site's own "
        "commands write "
        "has this umask: set another in the start-up file, or in the hook (umask 022).",
        Fix("host", f"sed -i {change} ~{e.connection.user}/.bashrc"),
        umask=said,
    )  # fmt: skip


def _startup(e: Examination, said: Said) -> None:
    """Start-up files that let commands through, and yet do harm."""
    missing = e.said.get("path") != e.said.get("path_used")  # ours, where the account's lacks what we need
    slow = said.seconds - 2 * e.round_trip > SLOW_START
    if not missing and not slow:
        e.ok("shell-startup", seconds=round(said.seconds, 2))
        return
    seen = startup.look(e).find(*(["waits"] if slow else ["sets PATH"]))
    what = f"take {said.seconds:.0f} s before each command" if slow else "leave no usable PATH"
    e.warn(
        "shell-startup", f"The account's start-up files {what}.",
        "; ".join([f"PATH is {e.said.get('path') or 'empty'}", f"a command took {said.seconds:.1f} s", seen]),
        "A deployment has some ten commands, and hooks get the account's own PATH. Let such lines apply "
        "only where "
        "there is a terminal: case $- in *i*) … ;; esac.",
        Fix("host", f"sed -i '1i case $- in *i*) ;; *) return ;; esac' ~{e.connection.user}/.bashrc"),
        seconds=round(said.seconds, 2), path=e.said.get("path"), lines=seen,
    )  # fmt: skip


def _refused(e: Examination, error: BaseException) -> None:
    e.fail(
        "sftp-only",
        "The server runs no commands for this account.",
        f"the request to run one was refused: {error}",
        "Deployments need a shell: ask for SSH access, not only SFTP.",
        Fix("sshd_config", "ForceCommand none"), error=str(error),
    )  # fmt: skip


def _hung_up(e: Examination, error: BaseException) -> None:
    e.fail(
        "account",
        "The server takes the login, and hangs up at the first command.",
        e.connection.why_dead(),
        "So does sshd when the account's chroot directory, or one above it, is not root's or can be "
        "written by others; its log says which (bad ownership or modes for chroot directory).",
        Fix("host", "chown root:root CHROOT && chmod 755 CHROOT"), error=str(error),
    )  # fmt: skip


def _something_else(e: Examination, said: Said) -> None:
    """Our command did not run: who is in the way?"""
    text = said.text[:500]
    low = text.lower()
    shown = f"exit status {said.status}, and it said: {text or '(nothing)'}"
    evidence: Evidence = {"exit_status": said.status, "said": text, "seconds": round(said.seconds, 2)}
    if _lacks_resources(text):
        _few(e, said)
    elif "exec /bin/sh -c" in text:
        _forced(e, "The server prints commands instead of running them.", shown, evidence)
    elif "sftp" in low or re.search(r"(bash|sh): no such file or directory", low):
        e.fail(
            "sftp-only",
            "The account is for SFTP only: it runs no commands.", shown,
            "Deployments need a shell. Ask the hosting company for SSH (shell) access; in sshd_config it "
            "is ForceCommand or ChrootDirectory that takes it away.",
            Fix("sshd_config", "ForceCommand none"), **evidence,
        )  # fmt: skip
    elif "password" in low and any(word in low for word in ("expired", "change", "required")):
        e.fail(
            "account", "The account's password has expired; until it is changed, nothing runs.", shown,
            "Log in by hand (ssh, with a terminal) and set a new one, or have the expiry lifted.",
            Fix("host", f"chage -d $(date +%F) {e.connection.user}"), **evidence,
        )  # fmt: skip
    elif "restricted" in low or "not available" in low or "nologin" in low:
        _restricted(e, shown, evidence)
    else:
        _unfriendly(e, said, shown, evidence)


def _restricted(e: Examination, shown: str, evidence: Evidence) -> None:
    e.fail(
        "shell-restricted",
        "The account's login shell runs no commands of ours.", shown,
        "It is a restricted one (rbash, nologin, /bin/false …). Ask for a real shell: /bin/sh is enough.",
        Fix("host", f"usermod -s /bin/sh {e.connection.user}"), **evidence,
    )  # fmt: skip


def _forced(e: Examination, what: str, shown: str, evidence: Evidence) -> None:
    e.fail(
        "shell-forced", what, shown,
        "A forced command: ForceCommand in sshd_config, or command=\"…\" before the key in "
        "~/.ssh/authorized_keys. Have it taken away for this key, or use another key.",
        Fix("sshd_config", "ForceCommand none"), **evidence,
    )  # fmt: skip


def _unfriendly(e: Examination, said: Said, shown: str, evidence: Evidence) -> None:
    """A start-up file, a forced command or a shell that runs nothing: a forced command replaces the built-in
    SFTP server too, a start-up file does not; and where that answers, it shows the files.
    """
    seen = startup.look(e)
    evidence = {**evidence, "login_shell": seen.shell, "sftp_answers": seen.read}
    guilty = seen.find("ends the shell", "replaces the shell", "waits", "reads standard input")
    if seen.shell and posixpath.basename(seen.shell) in ("false", "true", "nologin", "rbash"):
        _restricted(e, f"{shown}; its login shell is {seen.shell}", evidence)
    elif guilty or not said.ended or (said.status == 0 and not said.text) or (seen.shell and not said.text):
        how = "let no command run" if said.ended else f"had not let a command run after {said.seconds:.0f} s"
        proof = guilty or (
            "SFTP is not there to read them; a forced command that says nothing would look the same"
            if not seen.read
            else "SFTP answers, so it is no forced command"
        )
        e.fail(
            "shell-startup", f"The account's start-up files {how}.", f"{shown}; {proof}",
            "~/.bashrc (or another start-up file) runs before each command, also where there is no "
            "terminal: take "
            "out what exits, waits, reads or starts another program there, or let it apply to terminals "
            "only.",
            Fix("host", f"sed -i '1i case $- in *i*) ;; *) return ;; esac' ~{e.connection.user}/.bashrc"),
            lines=guilty, **evidence,
        )  # fmt: skip
    elif _silent_no(said):
        _restricted(e, shown, evidence)
    elif said.text and said.status >= 0:
        _forced(e, "The server runs a command of its own in place of ours.", shown, evidence)
    else:
        e.unexplained("shell", shown, **evidence)


def _silent_no(said: Said) -> bool:
    """Whether it is a shell like /bin/false: it says nothing and fails, whatever it is asked."""
    return said.ended and said.status not in (0, -1) and not said.text


def _noise(e: Examination, noise: bytes) -> None:
    home, shell = e.said.get("home", "~"), posixpath.basename(e.said.get("shell", "sh"))
    file = {"bash": ".bashrc", "zsh": ".zshenv"}.get(shell, ".profile")
    text = noise[:NOISE_SHOWN].decode("utf-8", "replace").strip()
    if "forced" in e.said:
        e.warn(
            "shell-noise", "A forced command prints something before it runs ours.",
            f"{len(noise)} bytes: {text!r}; SSH_ORIGINAL_COMMAND is set, so it is not a start-up file",
            "Deployments pass over it; rsync and SFTP break on it. Have the forced command (ForceCommand, or "
            "command=\"…\" in authorized_keys) write its log to stderr or a file.",
            Fix("sshd_config", "ForceCommand none"), bytes=len(noise), text=text, forced=True,
        )  # fmt: skip
        return
    e.warn(
        "shell-noise",
        "The shell prints something before the first command.",
        f"{len(noise)} bytes: {text!r}",
        f"~/{file}, or a file it reads, prints where nobody looks. Deployments pass over it; rsync and an "
        "SFTP server that is started by the shell break on it. Let it end at once where there is no "
        "terminal.",
        Fix("host", f"sed -i '1i case $- in *i*) ;; *) return ;; esac' {quote(posixpath.join(home, file))}"),
        bytes=len(noise), text=text,
    )  # fmt: skip


def _homeless(e: Examination, said: Said) -> None:
    home, user = e.said.get("home", ""), e.said.get("user", "")
    e.warn(
        "home-missing",
        f"The home directory {home or '(unnamed)'} is not there.",
        f"the shell starts in {e.said.get('pwd')}; it says: "
        f"{said.err.decode('utf-8', 'replace').strip()[:200]}",
        "Deployments do without it; hooks and SFTP, which starts there, may not.",
        Fix("host", f"mkdir -p {quote(home)} && chown {user} {quote(home)}"),
        home=home, starts_in=e.said.get("pwd"),
    )  # fmt: skip


def make_place(e: Examination) -> str:
    """A directory of ours: under deploy_to, else in the home, wherever one can be made."""
    wanted = [e.layout.deploy_to] if e.layout and e.has("deploy_to") else []
    name = f"{PROBE}{e.token}"
    candidates = " ".join(quote(path) for path in [*wanted, e.said.get("home") or "/"])
    found = e.script(f"""
for d in {candidates}; do
  p=${{d%/}}/{name}
  [ -d "$d" ] && mkdir -m 700 "$p" 2>/dev/null || continue
  ln -s nowhere "$p/link" 2>/dev/null; mkdir "$p/from-shell" && printf %s {e.token} > "$p/nonce" 2>/dev/null
  printf 'place\\t%s\\n' "$p"; break
done""")
    if not (place := lines(found, "place")):
        return "neither in deploy_to nor in the home a directory can be made"
    e.place = place
    e.grant("place")
    return ""


def sessions(e: Examination) -> None:
    """How many sessions one connection carries at once: a deployment has up to four."""
    e.close_sftp()
    opened: list[paramiko.Channel] = []
    refused: BaseException | None = None
    try:
        while len(opened) < WANTED and refused is None:
            refused = _open_one(e, opened)
    finally:
        for channel in opened:
            channel.close()
    count = len(opened)
    evidence: Evidence = {"sessions": count, "wanted": WANTED}
    if refused is None:
        e.ok("max-sessions", f"One connection carries {count} sessions at least.", **evidence)
        return
    e.connection.allow_sessions(count)
    e.warn(
        "max-sessions",
        f"The server allows {count} session{'' if count == 1 else 's'} at a time on one connection.",
        f"session {count + 1} was refused: {refused}",
        f"A deployment has commands and SFTP open at once, up to {WANTED} in all.",
        Fix("sshd_config", "MaxSessions 10"), **evidence,
    )  # fmt: skip


WANTED = 4


def _open_one(e: Examination, opened: list[paramiko.Channel]) -> BaseException | None:
    """Open one session more; why that was refused, if it was. The first one may have to wait its turn."""
    refused: BaseException | None = None
    for turn in range(1 if opened else 20):
        try:
            opened.append(e.connection.transport.open_session(timeout=ANSWER_WITHIN))
            return None
        except paramiko.ChannelException as error:
            refused = error
            if turn:
                e.connection.pause(0.1)
    return refused
