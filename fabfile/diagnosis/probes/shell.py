"""The shell: whether it runs what it is given, and says nothing else."""

from __future__ import annotations

import posixpath
from dataclasses import replace

import paramiko

from ...remote.bare import Said
from ...remote.connection import LINK_ERRORS
from ...remote.request import Request
from ...remote.shell import quote
from ..examination import ANSWER_WITHIN, PROBE, Evidence, Examination, lines
from ..finding import Fix

NOISE_SHOWN = 200  # bytes

# Everything that later probes want to know, asked in one command. Umask and directory are those that the
# login began with.
LOOK = r"""
row() { printf '%s\t%s\n' "$1" "$2"; }
row answer $((6*7))
row user "$(id -un 2>/dev/null || id -u)"; row uid "$(id -u)"
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
row path "$PATH"
row client "${SSH_CONNECTION%% *}"
row kill "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
  org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)"
"""


def speaks(e: Examination) -> None:
    """Run a command as a deployment does, and look at every byte that comes back."""
    request = Request.of(LOOK)
    try:
        said = e.execute(request.text.decode())
        said = replace(said, err=said.err.replace(request.err_mark, b""))
    except LINK_ERRORS as error:
        _refused(e, error)
        return
    before, found, after = said.out.partition(request.mark)
    if not found:
        _something_else(e, said)
        return
    rows = [line.partition("\t") for line in after.decode("utf-8", "replace").splitlines()]
    e.said = {key: value for key, tab, value in rows if tab}
    e.grant("shell")
    for fact in ("user", "machine", "system", "os"):
        if e.said.get(fact):
            e.facts[fact] = e.said[fact]
    e.ok("shell-forced", answered=e.said.get("answer"))
    if before:
        _noise(e, before)
    if "home_is" not in e.said:
        _homeless(e, said)
    _make_place(e)


def _refused(e: Examination, error: BaseException) -> None:
    if e.connection.still_alive():
        e.fail(
            "sftp-only",
            "The server runs no commands for this account.",
            f"the request to run one was refused: {error}",
            "Deployments need a shell: ask for SSH access, not only SFTP.",
            Fix("sshd_config", "ForceCommand none"), error=str(error),
        )  # fmt: skip
        return
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
    evidence: Evidence = {"exit_status": said.status, "said": text}
    if "sftp" in low or "no such file or directory" in low:
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
    elif "restricted" in low or "not available" in low or "nologin" in low or _silent_no(said):
        e.fail(
            "shell-restricted",
            "The account's login shell runs no commands of ours.", shown,
            "It is a restricted one (rbash, nologin, /bin/false …). Ask for a real shell: /bin/sh is enough.",
            Fix("host", f"usermod -s /bin/sh {e.connection.user}"), **evidence,
        )  # fmt: skip
    else:
        e.fail(
            "shell-forced",
            "The server runs a command of its own in place of ours.",
            shown if said.ended else f"it did not end within {ANSWER_WITHIN:g} s, and said: {text}",
            "A forced command: ForceCommand in sshd_config, or command=\"…\" before the key in "
            "~/.ssh/authorized_keys. Have it taken away for this key, or use another key.",
            Fix("sshd_config", "ForceCommand none"), **evidence,
        )  # fmt: skip


def _silent_no(said: Said) -> bool:
    """Whether it is a shell like /bin/false: it says nothing and fails, whatever it is asked."""
    return said.ended and said.status not in (0, -1) and not said.text


def _noise(e: Examination, noise: bytes) -> None:
    home, shell = e.said.get("home", "~"), posixpath.basename(e.said.get("shell", "sh"))
    file = {"bash": ".bashrc", "zsh": ".zshenv"}.get(shell, ".profile")
    text = noise[:NOISE_SHOWN].decode("utf-8", "replace").strip()
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


def _make_place(e: Examination) -> None:
    """A directory of ours: under deploy_to, else in the home, wherever one can be made."""
    wanted = [e.layout.deploy_to] if e.layout else []
    name = f"{PROBE}{e.token}"
    candidates = " ".join(quote(path) for path in [*wanted, e.said.get("home") or "/"])
    found = e.script(f"""
for d in {candidates}; do
  p=${{d%/}}/{name}
  [ -d "$d" ] && mkdir -m 700 "$p" 2>/dev/null || continue
  ln -s nowhere "$p/link" 2>/dev/null; mkdir "$p/from-shell" && printf %s {e.token} > "$p/nonce" 2>/dev/null
  printf 'place\\t%s\\n' "$p"; break
done""")
    if place := lines(found, "place"):
        e.place = place
        e.grant("place")


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
    e.judge(
        "fail" if count < 2 and e.settings.ssh.sftp != "off" else "warn",
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
