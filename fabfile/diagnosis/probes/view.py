"""The view: whether SFTP and the shell, and one connection and the next, see the same host."""

from __future__ import annotations

import posixpath
import time

from paramiko.sftp import CMD_CLOSE, CMD_EXTENDED, CMD_HANDLE, CMD_NAME, CMD_OPENDIR, CMD_READDIR, CMD_STAT

from ...errors import AuthenticationFailed, ConnectionFailed, HostKeyRefused
from ...remote.sftp_session import SftpSession
from ...remote.shell import quote
from ..examination import Examination, lines
from ..finding import Fix
from . import connect
from .sftp import seen_as

NAMES_SHOWN = 8
DIES_WITHIN = 1.0  # seconds after a logout


def same_tree(e: Examination) -> str:
    """The shell has made a directory with a random name; SFTP is asked for it, under every likely path."""
    assert e.place is not None
    session = e.sftp()
    names = seen_as(e, e.place)
    sent = {name: session.send(CMD_STAT, f"{name}/from-shell") for name in names}
    answers = {name: session.receive(number) for name, number in sent.items()}
    expected = names[0]
    if any(answer.code == 3 for answer in answers.values()) and not any(a.ok for a in answers.values()):
        return "SFTP may not look: see sftp-denied"
    found = next((name for name, answer in answers.items() if answer.ok), None)
    if found == expected:
        e.ok("view-split", place=e.place, sftp_path=found)
        _root_unneeded(e, found)
    elif found is not None:
        _chroot(e, found)
    else:
        _split(e, session)
    return ""


def _root_unneeded(e: Examination, found: str) -> None:
    e.facts["SFTP view"] = "the same paths" if found == e.place else f"/ is {e.settings.ssh.sftp_root}"


def _chroot(e: Examination, found: str) -> None:
    assert e.place is not None
    root = e.place.removesuffix(found.rstrip("/")).rstrip("/") or "/"
    e.facts["SFTP view"] = f"/ is {root}"
    configured = e.settings.ssh.sftp_root
    e.warn(
        "view-chroot",
        f"SFTP is chrooted: what it calls / is {root} for the shell.",
        f"the shell made {e.place}; SFTP finds it as {found}"
        + (f", while ssh.sftp_root says {configured}" if configured else ""),
        "Deployments find that out by themselves where deploy_to lies below; say it, and they need not.",
        Fix("config.yaml", f"ssh: {{sftp_root: {'null' if root == '/' else root}}}"),
        shell_path=e.place, sftp_path=found, sftp_root=root,
    )  # fmt: skip


def _split(e: Examination, session: SftpSession) -> None:
    theirs = _names_in_root(session)
    ours = e.script('for f in /* /.[!.]*; do [ -e "$f" ] && printf "name\\t%s\\n" "${f#/}"; done').get(
        "name", []
    )
    e.judge(
        e.sftp_status, "view-split",
        "SFTP and the shell see different trees.",
        f"the shell made {e.place}; SFTP does not see it under any of {len(seen_as(e, e.place or '/'))} "
        f"likely paths. / holds, for the shell: {_some(ours)}; for SFTP: {_some(theirs)}",
        "Checks over SFTP would see something else than what is deployed. Have both see one tree, or let "
        "the checks go over SSH.",
        Fix("config.yaml", "ssh: {sftp: off}"),
        shell_path=e.place, shell_root=sorted(ours)[:40], sftp_root_names=sorted(theirs)[:40],
        file_system=_file_system(e, session),
    )  # fmt: skip


def _file_system(e: Examination, session: SftpSession) -> dict[str, object]:
    """A second witness: the size of the file system, as either side counts it."""
    folder = posixpath.dirname(e.place or "/")
    answer = session.ask(CMD_EXTENDED, "statvfs@openssh.com", folder)
    blocks = 0
    if answer.ok and len(answer.data) >= 24:
        blocks = int.from_bytes(answer.data[16:24], "big")
    said = lines(e.script(f"printf 'blocks\\t%s\\n' \"$(stat -f -c %b {quote(folder)})\""), "blocks")
    return {"shell_blocks": int(said) if said.isdigit() else None, "sftp_blocks": blocks or None}


def _names_in_root(session: SftpSession) -> list[str]:
    opened = session.ask(CMD_OPENDIR, "/")
    if opened.kind != CMD_HANDLE:
        return []
    handle = opened.handle()
    answer = session.ask(CMD_READDIR, handle)
    names = answer.names() if answer.kind == CMD_NAME else []
    session.ask(CMD_CLOSE, handle)
    return [name for name in names if name not in (".", "..")]


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:NAMES_SHOWN]) or "(nothing)"
    return shown + (" …" if len(names) > NAMES_SHOWN else "")


def same_server(e: Examination) -> None:
    """A second login: it must see the first one's directory. What it starts must outlive it."""
    assert e.place is not None
    other = e.fresh(3600.0)
    try:
        if e.bad("slow-login"):
            other.connect_kwargs["auth_timeout"] = e.left(connect.PATIENCE)
        other.open()
        key = f"{other.transport.get_remote_server_key().get_name()} "
        found = e.script(_SECOND.format(place=quote(e.place)), connection=other)
        _compare(e, found, key)
    except ConnectionFailed as error:
        _second_refused(e, error)
        return
    finally:
        other.close()
    if not e.bad("server-varies"):
        e.left_behind = lines(found, "pid"), time.monotonic()


def _second_refused(e: Examination, error: ConnectionFailed) -> None:
    """A second login failed where the first had worked: perhaps it was another server."""
    if isinstance(error, HostKeyRefused | AuthenticationFailed):
        e.fail(
            "server-varies", "A second login was refused where the first one had worked.",
            f"{error.what} {error.why}",
            "Several servers answer under this name. Deploy to each by its own name or address: -H "
            "web1,web2.",
            error=error.what,
        )  # fmt: skip
        return
    if error.stage not in ("tcp", "greeting"):
        e.lost("view", error.why, again=False)
        return
    e.warn(
        "rate-limited", "A second connection, right after the first, was not let in.", error.why,
        "A firewall, fail2ban or sshd (MaxStartups, PerSourceMaxStartups) rations new connections. A "
        "deployment needs "
        "one; after a drop it needs another, and waits up to ssh.reconnect.window for it. transfer: "
        "rsync makes more.",
        Fix("config.yaml", "ssh: {reconnect: {attempts: 20, window: 600}}"),
        stage=error.stage, cause=error.cause,
    )  # fmt: skip


_SECOND = r"""
[ -d {place}/from-shell ] && printf 'sees\tyes\n'
printf 'machine\t%s\n' "$(hostname 2>/dev/null || uname -n)"
printf 'id\t%s\n' "$(cat /etc/machine-id 2>/dev/null)"
printf 'boot\t%s\n' "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
printf 'root\t%s\n' "$(stat -c %d:%i / 2>/dev/null)"
if command -v setsid >/dev/null 2>&1; then setsid sleep 120 </dev/null >/dev/null 2>&1 &
else (trap '' HUP; exec sleep 120) </dev/null >/dev/null 2>&1 & fi
printf 'pid\t%s\n' $!
"""


def _compare(e: Examination, found: dict[str, list[str]], key: str) -> None:
    differs = {
        name: [e.said.get(name, ""), lines(found, name)]
        for name in ("machine", "id", "boot")
        if e.said.get(name, "") != lines(found, name)
    }
    sees = lines(found, "sees") == "yes"
    e.named("machine", lines(found, "machine"))
    if sees and not differs:
        e.saw("same server")
        e.ok("server-varies", machine=e.said.get("machine"), logins=2)
        return
    why = "; ".join(f"{name}: {a or '?'} and {b or '?'}" for name, (a, b) in differs.items())
    e.judge(
        "warn" if sees else "fail",
        "server-varies",
        "Two logins in a row reached two different servers.",
        ("" if sees else f"the second one does not see {e.place}, which the first one made. ") + why,
        "A load balancer, or a name with several addresses. Deploy to each server by its own name or "
        "address: -H web1,web2 makes them one deployment.",
        differs=differs, sees_the_first=sees,
    )  # fmt: skip


# A process that was killed may wait for somebody to reap it, and still takes signals.
_STILL_THERE = r"""
case $(sed 's/.*) //' /proc/{pid}/stat 2>/dev/null) in Z*|X*) exit 0 ;; esac
kill {pid} 2>/dev/null && printf 'alive\tyes\n'
"""


def outlives(e: Examination) -> str:
    """Whether the job of the connection that was closed still runs, a moment later; it is ended then."""
    pid, closed = e.left_behind
    if not pid:
        return "no job could be started over a second login"
    e.connection.pause(max(0.0, closed + DIES_WITHIN - time.monotonic()))
    alive = lines(e.script(_STILL_THERE.format(pid=quote(pid))), "alive")
    says = e.said.get("kill", "")
    if alive:
        e.ok("jobs-killed-at-logout", survived=DIES_WITHIN, KillUserProcesses=says or None)
        return ""
    e.warn(
        "jobs-killed-at-logout",
        "The host ends what a session has started when the session ends.",
        f"a detached process (pid {pid}) was gone within {DIES_WITHIN:g} s of the logout"
        + (f"; logind says KillUserProcesses: {says}" if says else ""),
        "Long steps can't go on without a connection there: they run attached, and begin again after a "
        "drop. Have KillUserProcesses=no set in /etc/systemd/logind.conf.",
        Fix("host", "sed -i 's/^#*KillUserProcesses=.*/KillUserProcesses=no/' /etc/systemd/logind.conf && "
            "systemctl restart systemd-logind"),
        pid=pid, KillUserProcesses=says or None,
    )  # fmt: skip
    return ""
