"""The account's start-up files and login shell, read over SFTP: what keeps commands from running."""

from __future__ import annotations

import contextlib
import re

import paramiko
from paramiko.sftp import CMD_CLOSE, CMD_DATA, CMD_HANDLE, CMD_OPEN, CMD_READ, SFTP_FLAG_READ, int64

from ...remote.connection import LINK_ERRORS
from ...remote.sftp_session import NotSftp, SftpSession
from ..examination import Examination
from ..rules.account import Startup

FILES = (
    ".bashrc", ".bash_profile", ".profile", ".zshenv", ".cshrc", ".tcshrc", ".kshrc", ".mkshrc",
    ".config/fish/config.fish", ".ssh/rc", ".ssh/environment",
)  # fmt: skip
READ = 32_000  # bytes of each file

# What a line of a start-up file may do to a command, and how to know it.
EFFECTS = (
    (
        "ends the shell",
        re.compile(
            r"^\s*(?:[^#]*[;&|{)'\"]\s*|then\s+|else\s+)?(?:(?:exit|logout|set\s+-\w*e)\b|kill\s.*(?:\$\$|\$PPID))"
        ),
    ),
    ("replaces the shell", re.compile(r"^\s*(?:[^#]*[;&|{)]\s*|then\s+)?exec\s+[^<>&\d\s]")),
    ("waits", re.compile(r"^\s*[^#]*\b(?:sleep|wait|while\s+(?:true|:)|until\s+false)\b")),
    ("reads standard input", re.compile(r"^\s*[^#]*\b(?:read\s+\w|read$|cat\s*(?:>|$)|select\s+\w)")),
    ("redirects output", re.compile(r"^\s*(?:[^#]*[;&|{)]\s*|then\s+)?exec\s+[12]?(?:>|>&|&>)")),
    ("sets PATH", re.compile(r"^\s*(?:export\s+|setenv\s+|set\s+(?:-\w+\s+)*)?(?:PATH|path)\b\s*=?")),
    ("sets umask", re.compile(r"^\s*umask\s+[0-7]")),
    ("prints", re.compile(r"^\s*(?:[^#]*[;&|{)]\s*)?(?:echo|printf|fortune|neofetch|motd|figlet|date)\b")),
)


def look(e: Examination) -> Startup:
    """Read them, as far as SFTP lets us: it does not, where the shell starts its server."""
    with contextlib.suppress(NotSftp, *LINK_ERRORS):
        session = e.sftp()
        found: dict[str, list[str]] = {}
        for name in FILES:
            for number, line in enumerate(_text(session, name).splitlines(), 1):
                for effect, pattern in EFFECTS:
                    if pattern.search(line):
                        found.setdefault(effect, []).append(f"~/{name}:{number}: {line.strip()[:120]}")
        return Startup(True, _login_shell(session, e.connection.user), found)
    return Startup()


def _login_shell(session: SftpSession, user: str) -> str:
    rows = [line.split(":") for line in _text(session, "/etc/passwd").splitlines()]
    return next((row[6] for row in rows if len(row) == 7 and row[0] == user), "")


def _text(session: SftpSession, path: str) -> str:
    """The beginning of a file; "" where there is none, or none that we may read."""
    opened = session.ask(CMD_OPEN, path, SFTP_FLAG_READ, 0)
    if opened.kind != CMD_HANDLE:
        return ""
    handle = opened.handle()
    answer = session.ask(CMD_READ, handle, int64(0), READ)
    session.ask(CMD_CLOSE, handle)
    if answer.kind != CMD_DATA:
        return ""
    return bytes(paramiko.Message(answer.data).get_binary()).decode("utf-8", "replace")
