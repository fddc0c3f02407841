"""The shell: whether it runs what it is given, and says nothing else."""

from __future__ import annotations

import contextlib
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import paramiko
from paramiko.sftp import CMD_INIT, CMD_VERSION

from ...errors import SwitchoverError
from ...remote.connection import LINK_ERRORS
from ...remote.host import NEEDED
from ...remote.raw_ssh import Said
from ...remote.request import Request
from ...remote.sftp_session import SFTP_VERSION
from ...remote.shell import quote
from ..examination import (
    ANSWER_WITHIN,
    END,
    PROBE,
    Evidence,
    Examination,
    Unanswered,
    filled,
    lines,
    read_rows,
)
from ..finding import Fix
from ..rules import account
from ..rules import shell as rules
from . import second_looks, startup
from .configuration import PROGRAMS

HANGS_UP_WITHIN = 3.0  # seconds after the login, where it is the server that does
PLAIN_WITHIN = 4.0  # seconds
LONG, SHORT = 48_000, 6_000  # bytes of a deployment's longest requests; the latter but to OpenSSH
LOOK_SIZE = 6_000  # bytes: what the first command has

# Everything that later probes want to know, asked in one command. $account is the account's own umask and
# environment: see remote.request.
LOOK = r"""
row() { printf '%s\t%s\n' "$1" "$2"; }
row answer $((6*7))
have=' '; for p in PROGRAMS; do command -v "$p" >/dev/null 2>&1 && { row has "$p"; have="$have$p "; }; done
row processes "$(ulimit -u 2>/dev/null || ulimit -p 2>/dev/null)"; row open_files "$(ulimit -n)"
row file_size "$(ulimit -f)"; row memory "$(ulimit -v 2>/dev/null)"; row data "$(ulimit -d 2>/dev/null)"
row cpu "$(ulimit -t)"
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
own=$(printf '%s\n' "$account" | sed -n "s/['\"]//g; s/^export PATH=//p" | head -n 1)
row path "$own"
# Of what each deployment needs, the programs that are not in the account's own PATH, though in ours.
(PATH=$own; for p in NEEDED; do
  case $have in *" $p "*) command -v "$p" >/dev/null 2>&1 || row beyond "$p" ;; esac
done)
row client "${SSH_CONNECTION%% *}"
row kill "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
  org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)"
"""


def speaks(e: Examination) -> str:
    """Run a command as a deployment does, and look at every byte that comes back."""
    started = time.time()
    try:
        said = e.ask(filled(LOOK, PROGRAMS=" ".join(PROGRAMS), NEEDED=" ".join(NEEDED)))
    except LINK_ERRORS as error:
        if isinstance(error, paramiko.ChannelException) and e.connection.still_alive():
            rules.no_session(e, str(error))
            return ""
        if e.connection.still_alive() and not isinstance(error, TimeoutError) and e.answers():
            rules.sftp_only(e, f"the request to run a command was refused: {error}", error=str(error))
            return ""
        soon = time.monotonic() - e.since < HANGS_UP_WITHIN
        if e.connection.alive or not soon or not second_looks.carries(e.connection):
            raise
        if not _ended_by_commands(e):
            _hung_up(e, error)
        return ""
    if not said.started and not e.connection.still_alive():
        if not _ended_by_commands(e):
            raise EOFError(e.connection.why_dead())
        return ""
    if not said.started:
        rules.explain(e, _refusal(e, said))
        return ""
    rows = read_rows(said.out)
    e.said = {key: values[0] for key, values in rows.items()}
    if END not in rows or e.said.get("answer") != "42":
        return _cut_short(e, said)
    e.asked_at = (started + time.time()) / 2
    e.programs = frozenset(rows.get("has", []))
    e.grant("shell")
    e.saw("command", seconds=said.seconds)
    _judge(e, said)
    return ""


def _ended_by_commands(e: Examination) -> bool:
    """Whether a fresh connection lives longer than this one did while nothing runs, and dies of a command.

    One whose account may not enter its chroot does not: sshd ends it right after the login.
    """
    lived = time.monotonic() - e.since
    if lived > HANGS_UP_WITHIN or not second_looks.carries(e.connection):
        return False
    other = e.fresh(3600.0)
    with contextlib.closing(other), contextlib.suppress(SwitchoverError):
        other.open()
        other.pause(lived + 1)
        if other.still_alive():
            with contextlib.suppress(*LINK_ERRORS):
                e.execute(":", PLAIN_WITHIN, connection=other)
            if not other.still_alive():
                rules.ends_connections(e, e.connection.user, other.why_dead())
                e.abilities["connection"] = "shell-startup"
                return True
    return False


def _judge(e: Examination, said: Said) -> None:
    user = e.connection.user
    for fact in ("user", "machine", "system", "os"):
        if e.said.get(fact):
            e.facts[fact] = e.said[fact]
    e.ok("shell-forced", answered=e.said.get("answer"))
    if said.merged:
        account.merged(e)
    elif said.before:
        account.noise(e, said.before)
    account.startup(e, user, said.seconds, lambda: startup.look(e))
    account.limits(e, user)
    account.umask(e, user, lambda: startup.look(e))
    if "home_is" not in e.said:
        account.homeless(e, said.err)


def _cut_short(e: Examination, said: Said) -> str:
    """It began and did not come to its end."""
    values = _limits_told(e)
    if account.lacks_resources(said.text) or account.tight(values):
        account.few(e, e.connection.user, said.text or f"nothing; exit status {said.status}", values)
        return "the host starts no further program"
    raise Unanswered(said, read_rows(said.out))


def _refusal(e: Examination, first: Said) -> rules.Refusal:
    """Our command did not run: look at what a shorter one does, and at the start-up files."""
    asked = rules.Plain.drawn()
    plain = e.execute(asked.text, PLAIN_WITHIN)
    long_plain, values = None, []
    if asked.answer in plain.out:
        values = _limits_told(e)
    if asked.answer in plain.out and plain.status == asked.status:
        long_plain = e.execute(f": {'x' * LOOK_SIZE}; {asked.text}", PLAIN_WITHIN)
    seen = startup.look(e)
    return rules.Refusal(
        e.connection.user, first, asked, plain, seen, seen.read, long_plain,
        is_sftp=seen.read and not first.text and _is_sftp(e), values=tuple(values),
    )  # fmt: skip


def _limits_told(e: Examination) -> list[str]:
    """`ulimit -a`: the shell's own, so it needs no program."""
    told = e.execute("ulimit -a", PLAIN_WITHIN)
    return [line.strip() for line in told.out.decode("utf-8", "replace").splitlines()][:20]


def _is_sftp(e: Examination) -> bool:
    """Whether an SFTP server answers where a command was asked for: a forced one."""
    channel = e.session()
    with contextlib.closing(channel), contextlib.suppress(*LINK_ERRORS):
        channel.settimeout(PLAIN_WITHIN)
        channel.exec_command("true")
        channel.sendall(struct.pack(">IBI", 5, CMD_INIT, SFTP_VERSION))
        return bytes(channel.recv(5))[4:5] == bytes([CMD_VERSION])
    return False


def long_command(e: Examination) -> str:
    """A request as long as a deployment's, and the same on standard input."""
    size = LONG if "OpenSSH" in e.facts.get("server", "") else SHORT
    asked = rules.Plain.drawn()
    request = Request.of(f": {'x' * size}\n{asked.text}")
    said = e.execute(request.text.decode("ascii"))
    if said.out.partition(request.mark)[2].split()[:1] != [asked.answer]:
        e.missed("long command", f"exit status {said.status}, and it said: {said.text[:200]}")
        return "its answer was another one"
    if said.status != asked.status:
        rules.no_status(e, asked.status, said.status)
        return ""
    e.saw("long command")
    return ""


def _hung_up(e: Examination, error: BaseException) -> None:
    e.missed("command", str(error))
    e.fail(
        "account",
        "No command of a deployment runs: the server takes the login, and hangs up at the first one.",
        e.connection.why_dead(),
        "So does sshd when the account's chroot directory, or one above it, is not root's or can be "
        "written by others; its log says which (bad ownership or modes for chroot directory).",
        Fix("host", "chown root:root CHROOT && chmod 755 CHROOT"), error=str(error),
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
    try:
        refused = _open_one(e, opened, tries=20)
        if e.round_trip < FAR:
            while len(opened) < WANTED and refused is None:
                refused = _open_one(e, opened)
        elif refused is None:  # the others at once: each costs a round trip
            with ThreadPoolExecutor(WANTED) as pool:
                answers = list(pool.map(lambda _: _open_one(e, opened), range(WANTED - 1)))
            refused = next((answer for answer in answers if answer), None)
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
FAR = 0.3  # seconds of round trip


def _open_one(e: Examination, opened: list[paramiko.Channel], tries: int = 1) -> BaseException | None:
    """Open one session more; why that was refused, if it was. The first one may have to wait its turn."""
    refused: BaseException | None = None
    for turn in range(tries):
        try:
            opened.append(e.connection.transport.open_session(timeout=ANSWER_WITHIN))
            return None
        except paramiko.ChannelException as error:
            refused = error
            if turn:
                e.connection.pause(0.1)
    return refused
