"""SFTP: whether it is there, speaks, and answers each request that a deployment has."""

from __future__ import annotations

import posixpath
import random
import time
from collections.abc import Sequence

import paramiko
from paramiko.sftp import (
    CMD_ATTRS,
    CMD_CLOSE,
    CMD_DATA,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_FSETSTAT,
    CMD_HANDLE,
    CMD_LSTAT,
    CMD_MKDIR,
    CMD_NAME,
    CMD_OPEN,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    CMD_READLINK,
    CMD_REALPATH,
    CMD_REMOVE,
    CMD_RENAME,
    CMD_RMDIR,
    CMD_STAT,
    CMD_STATUS,
    CMD_SYMLINK,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_READ,
    SFTP_FLAG_WRITE,
    int64,
)

from ...remote.connection import LINK_ERRORS
from ...remote.sftp_session import END_OF_FILE, NO_SUCH_FILE, Answer, NotSftp, SftpSession
from ..examination import Evidence, Examination
from ..finding import Fix

HEAL = Fix("sshd_config", "Subsystem sftp internal-sftp")
NOT_SUPPORTED = 8  # SFTP's code
REQUESTS = 60  # for the measurement of the rate
TRANSFERRED, SFTP_BLOCK = 1 << 20, 32_768  # bytes
SLOW = 0.02  # seconds a request; a deployment checks some dozens of things

# What a deployment checks with, and what transfer: sftp writes with besides.
READS = ("realpath", "stat", "lstat", "opendir", "readdir", "readlink", "open", "read")
WRITES = ("create", "write", "setstat", "rename", "mkdir", "rmdir", "symlink", "remove")


def opens(e: Examination) -> None:
    """Ask for the subsystem, and look at the first bytes that come."""
    if e.settings.ssh.sftp == "off":
        e.abilities["sftp"] = "ssh.sftp is off"
        return
    try:
        session = e.sftp()
    except NotSftp as error:
        _broken(e, str(error), error.said, error.status)
    except TimeoutError as error:
        _broken(e, str(error), b"", -1)
    except LINK_ERRORS as error:
        if not e.connection.still_alive():
            _broken(e, f"the connection ended: {e.connection.why_dead()}", b"", -1)
        elif isinstance(error, paramiko.ChannelException):
            e.judge(e.sftp_status, "max-sessions", "The server opens no session for SFTP.", str(error),
                    "Have more than one session a connection allowed.",
                    Fix("sshd_config", "MaxSessions 10"))  # fmt: skip
        else:
            _missing(e, error)
    else:
        e.grant("sftp")
        e.saw("sftp")
        e.facts["SFTP extensions"] = ", ".join(sorted(name.partition("@")[0] for name in session.extensions))
        e.ok("sftp-missing", version=3, extensions=sorted(session.extensions))


def _missing(e: Examination, error: BaseException) -> None:
    e.judge(
        e.sftp_status, "sftp-missing", "The server has no SFTP subsystem.",
        f"the request for it was refused: {error}",
        "Deployments then check over SSH, and say so. To have both sides: a Subsystem line in sshd_config.",
        HEAL, error=str(error),
    )  # fmt: skip


def _broken(e: Examination, why: str, said: bytes, status: int) -> None:
    text = said.decode("utf-8", "replace").strip()[:300]
    seen = why + (f"; it says {text!r}" if text else "") + (f"; exit status {status}" if status >= 0 else "")
    evidence: Evidence = {"first_bytes": text, "exit_status": status}
    if e.bad("sftp-only") or e.bad("shell-forced"):
        hint = "The forced command runs in place of the SFTP server as well."
    elif status == 127:
        hint = "The program that its Subsystem line names is not there. The built-in one always is."
    elif e.bad("shell-noise"):
        hint = "What the shell prints of its own accord stands before the answer: see shell-noise."
    else:
        hint = "Something else than an SFTP server answers. The built-in one is not started by a shell."
    e.judge(
        e.sftp_status, "sftp-broken", "The SFTP subsystem does not speak SFTP.", seen, hint, HEAL, **evidence
    )


def stops_answering(e: Examination, why: str) -> None:
    """It has answered the greeting, and not what came then: nobody else need wait for it."""
    _broken(e, f"it opens, and then: {why}", b"", -1)
    e.abilities["sftp"] = "sftp-broken"


# What an answer that grants a request has to be (draft-ietf-secsh-filexfer-02, 7).
KINDS = {
    "realpath": CMD_NAME, "stat": CMD_ATTRS, "lstat": CMD_ATTRS, "opendir": CMD_HANDLE, "readlink": CMD_NAME,
    "open": CMD_HANDLE, "read": CMD_DATA, "create": CMD_HANDLE, "statvfs": CMD_EXTENDED_REPLY,
}  # fmt: skip


def requests(e: Examination) -> str:
    """Try each request in a place of our own; each has its own verdict."""
    session = e.sftp()
    start = session.ask(CMD_REALPATH, ".")
    answers = {"realpath": start}
    folder = _workplace(e, session, start)
    answers.update(_reading(session, folder))
    answers.update(_writing(session, folder, e.token))
    for name, answer in answers.items():
        if answer.ok and answer.kind != KINDS.get(name, answer.kind if name == "readdir" else CMD_STATUS):
            raise NotSftp(f"to {name} comes an answer of type {answer.kind}", answer.data[:200])
    # What a server need not know, such as posix-rename, is no denial.
    refused = {name: _said(a) for name, a in answers.items() if not a.ok and name in READS + WRITES}
    unread = [name for name in READS if name in refused]
    unwritten = [name for name in WRITES if name in refused]
    evidence: Evidence = {
        "folder": folder,
        "refused": refused,
        "granted": [n for n, a in answers.items() if a.ok],
    }
    e.facts["SFTP starts in"] = start.name or "?"
    if unwritten and not unread and e.place is None:
        return "there is no folder that the shell may write to, for a comparison"
    if unwritten and not unread and "create" in unwritten:
        _read_only(e, folder, refused, evidence)
    elif unread or unwritten:
        names = [*unread, *unwritten]
        e.judge(
            e.sftp_status if unread or e.settings.transfer == "sftp" else "warn",
            "sftp-denied",
            f"SFTP refuses {', '.join(names)}.",
            "; ".join(f"{name}: {refused[name]}" for name in names) + f" (in {folder})",
            "sftp-server was started with a list of requests (-p, -P), or its account may not do these. "
            "Deployments check over SSH then.",
            HEAL, **evidence,
        )  # fmt: skip
    else:
        e.ok("sftp-denied", f"It grants all {len(answers)} requests that a deployment has.", **evidence)
    return ""


def _read_only(e: Examination, folder: str, refused: dict[str, str], evidence: Evidence) -> None:
    e.judge(
        "fail" if e.settings.transfer == "sftp" else "warn",
        "sftp-readonly",
        "SFTP may read, and not write.",
        f"in {folder}, where the shell may write: " + "; ".join(f"{n}: {w}" for n, w in refused.items()),
        "sftp-server -R, or another account's rights. Checks work; transfer: sftp does not.",
        HEAL, **evidence,
    )  # fmt: skip


def _said(answer: Answer) -> str:
    names = {2: "no such file", 3: "permission denied", 4: "failure", 8: "not supported"}
    return answer.message or names.get(answer.code, f"code {answer.code}")


def _workplace(e: Examination, session: SftpSession, start: Answer) -> str:
    """Our directory as SFTP calls it, where it sees it; else where it starts."""
    if e.place:
        names = seen_as(e, e.place)
        seen = _together(session, [(name, CMD_OPENDIR, (name,)) for name in names])
        handles = [answer.handle() for answer in seen.values() if answer.kind == CMD_HANDLE]
        _together(session, [(str(n), CMD_CLOSE, (handle,)) for n, handle in enumerate(handles)])
        if found := [name for name in names if seen[name].kind == CMD_HANDLE]:
            return found[0]
    return start.name or "."


def seen_as(e: Examination, path: str) -> list[str]:
    """What SFTP may call the shell's `path`: as it is, under ssh.sftp_root, below each parent as a chroot."""
    root = e.settings.ssh.sftp_root
    names = []
    if root and (path + "/").startswith(root.rstrip("/") + "/"):
        names.append(posixpath.join("/", posixpath.relpath(path, root)))
    names.append(path)
    parts = path.strip("/").split("/")
    names += ["/" + "/".join(parts[start:]) for start in range(1, len(parts))]
    return list(dict.fromkeys(names))


Ask = tuple[str, int, tuple[object, ...]]  # a name, a kind of request, its fields


def _together(session: SftpSession, asks: Sequence[Ask]) -> dict[str, Answer]:
    """Send all, then hear all: one round trip. A server does them in their order (draft, section 6)."""
    sent = [(name, session.send(kind, *fields)) for name, kind, fields in asks]
    return {name: session.receive(number) for name, number in sent}


def _reading(session: SftpSession, folder: str) -> dict[str, Answer]:
    answers = _together(session, (
        ("stat", CMD_STAT, (folder,)),
        ("lstat", CMD_LSTAT, (folder,)),
        ("opendir", CMD_OPENDIR, (folder,)),
        ("readlink", CMD_READLINK, (f"{folder}/link",)),
        ("open", CMD_OPEN, (f"{folder}/nonce", SFTP_FLAG_READ, 0)),
        ("statvfs", CMD_EXTENDED, ("statvfs@openssh.com", folder)),
    ))  # fmt: skip
    for name in ("readlink", "open", "statvfs"):  # where our directory is not in view, these are not there
        if answers[name].code == NO_SUCH_FILE:
            del answers[name]
    inside: list[Ask] = []
    if answers["opendir"].kind == CMD_HANDLE:
        handle = answers["opendir"].handle()
        inside += [("readdir", CMD_READDIR, (handle,)), ("closedir", CMD_CLOSE, (handle,))]
    if "open" in answers and answers["open"].kind == CMD_HANDLE:
        handle = answers["open"].handle()
        inside += [("read", CMD_READ, (handle, int64(0), 64)), ("close", CMD_CLOSE, (handle,))]
    heard = _together(session, inside)
    if "readdir" in heard and heard["readdir"].code == END_OF_FILE:  # an empty directory
        heard["readdir"] = Answer(CMD_HANDLE, 0, "", b"")
    if "read" in heard and heard["read"].code == END_OF_FILE:
        del heard["read"]
    return answers | {name: answer for name, answer in heard.items() if name in READS}


def _writing(session: SftpSession, folder: str, token: str) -> dict[str, Answer]:
    base = f"{folder}/sftp-{token}"
    # OpenSSH has target and link the other way round than the draft.
    answers = _together(session, (
        ("create", CMD_OPEN, (base, SFTP_FLAG_WRITE | SFTP_FLAG_CREATE, 0)),
        ("mkdir", CMD_MKDIR, (f"{base}-d", 0)),
        ("symlink", CMD_SYMLINK, ("nowhere", f"{base}-l")),
    ))  # fmt: skip
    then: list[Ask] = []
    if answers["mkdir"].ok:
        then.append(("rmdir", CMD_RMDIR, (f"{base}-d",)))
    if answers["symlink"].ok:
        then += [("unlink", CMD_REMOVE, (f"{base}-l",)), ("unlink other", CMD_REMOVE, ("nowhere",))]
    if answers["create"].kind == CMD_HANDLE:
        handle = answers["create"].handle()
        then += [
            ("write", CMD_WRITE, (handle, int64(0), token)),
            ("setstat", CMD_FSETSTAT, (handle, 4, 0o600)),
            ("close", CMD_CLOSE, (handle,)),
            ("rename", CMD_RENAME, (base, f"{base}-b")),
            ("posix-rename", CMD_EXTENDED, ("posix-rename@openssh.com", f"{base}-b", base)),
            ("remove", CMD_REMOVE, (base,)),
            ("remove other", CMD_REMOVE, (f"{base}-b",)),
        ]
    heard = _together(session, then)
    if "remove" in heard and not heard["remove"].ok:
        heard["remove"] = heard["remove other"]
    if "posix-rename" in heard and heard["posix-rename"].code == NOT_SUPPORTED:
        del heard["posix-rename"]
    return answers | {name: answer for name, answer in heard.items() if name in (*WRITES, "posix-rename")}


def transfer(e: Examination) -> str:
    """A megabyte there by SFTP, and back: the same, byte by byte?"""
    if e.sights["upload"].answer != "seen" or e.bad("slow-link"):
        return ""
    session, content = e.sftp(), random.Random(e.token).randbytes(TRANSFERRED)
    name = f"{_workplace(e, session, session.ask(CMD_REALPATH, '.'))}/sftp-{e.token}-mb"
    opened = session.ask(CMD_OPEN, name, SFTP_FLAG_WRITE | SFTP_FLAG_READ | SFTP_FLAG_CREATE, 0)
    if opened.kind != CMD_HANDLE:
        return ""  # requests() tells of that
    handle, started = opened.handle(), time.monotonic()
    offsets = range(0, len(content), SFTP_BLOCK)
    sent = [session.send(CMD_WRITE, handle, int64(at), content[at : at + SFTP_BLOCK]) for at in offsets]
    written = [session.receive(number) for number in sent]
    asked = [session.send(CMD_READ, handle, int64(at), SFTP_BLOCK) for at in offsets]
    read = [session.receive(number) for number in asked]
    session.ask(CMD_CLOSE, handle)
    session.ask(CMD_REMOVE, name)
    back = b"".join(paramiko.Message(a.data).get_binary() for a in read if a.kind == CMD_DATA)
    took = time.monotonic() - started
    refused = next((_said(answer) for answer in (*written, *read) if not answer.ok), "")
    if back == content:
        e.saw("sftp upload", seconds=took)
        return ""
    why = refused or f"{len(back):,} of {len(content):,} bytes came back, and not the same"
    e.missed("sftp upload", why, took)
    if not any(e.bad(id) for id in ("sftp-denied", "sftp-readonly")):
        e.judge(
            e.sftp_status, "sftp-broken", "Files can't be sent by SFTP: what is written does not come back.",
            why, "Deployments send files over SSH then (transfer: stream). To have both:", HEAL,
            written=len(content), read=len(back), refused=refused,
        )  # fmt: skip
    return ""


def speed(e: Examination) -> str:
    """Many requests at once: the time between answers is the server's own, whatever the network's."""
    if e.bad("slow-link"):
        return "the network is too slow to tell"
    session = e.sftp()
    numbers = [session.send(CMD_LSTAT, "/") for _ in range(REQUESTS)]
    arrived = []
    until = time.monotonic() + session.timeout
    for number in numbers:
        session.receive(number)
        arrived.append(time.monotonic())
        if arrived[-1] > until:
            break
    spread = arrived[-1] - arrived[0]
    each = spread / max(len(arrived) - 1, 1)
    evidence: Evidence = {
        "requests": len(arrived),
        "seconds_each": round(each, 4),
        "first_20": round(_pace(arrived[:20]), 4),
        "last_20": round(_pace(arrived[-20:]), 4),
        "round_trip": round(e.round_trip, 4),
    }
    if each < SLOW:
        e.ok("sftp-slow", f"SFTP answers {1 / max(each, 1e-4):,.0f} requests a second.", **evidence)
        return ""
    e.warn(
        "sftp-slow",
        f"SFTP answers only {1 / each:,.0f} requests a second.",
        f"{len(arrived)} requests sent at once, {each * 1000:.0f} ms from answer to answer, while a round "
        f"trip of the network takes {e.round_trip * 1000:.0f} ms: it is SFTP that is slow, or its rate is "
        "limited",
        "transfer: stream (or rsync) sends files without it; ssh.sftp: off leaves the checks to SSH as well.",
        HEAL, **evidence,
    )  # fmt: skip
    return ""


def _pace(moments: list[float]) -> float:
    return (moments[-1] - moments[0]) / max(len(moments) - 1, 1)
