"""Whether what is served comes from the live release: by processes, nginx's files, and the site's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...remote.shell import quote
from ..case import Case
from ..finding import Fix

SHOWN = 5
# What a person uses by hand may stand wherever they left it.
BY_HAND = {
    "bash", "sh", "dash", "zsh", "fish", "ksh", "csh", "tcsh", "tmux", "tmux: server", "screen", "less", "vi",
    "vim", "nano", "emacs", "mc", "tail", "ssh", "sshd", "sftp-server", "sshd-session", "rsync", "tar",
}  # fmt: skip


@dataclass(frozen=True)
class Process:
    """A process that uses something below releases/. kind: cwd, exe or open file."""

    pid: str
    name: str
    kind: str
    path: str

    @property
    def gone(self) -> bool:
        """Whether what it uses is not there any more."""
        return self.path.endswith(" (deleted)")

    def __str__(self) -> str:
        how = {"cwd": "runs in", "exe": "runs the program"}.get(self.kind, "has open")
        path = self.path.removesuffix(" (deleted)")
        return f"pid {self.pid} ({self.name}) {how} {path}{', which is gone' if self.gone else ''}"


def processes(case: Case, live: str, rows: Sequence[str], nginx: Sequence[str]) -> None:
    """Programs that use an older release, and nginx that hands PHP paths through the link."""
    found = [Process(*parts) for row in rows if len(parts := row.split("\t", 3)) == 4]
    old = [process for process in found if process.name not in BY_HAND]
    reloads = any(
        "fpm" in command or "php" in command for command in map(str, case.settings.hooks.after_switch)
    )
    if old:
        names = sorted({process.name for process in old})
        gone = any(process.gone for process in old)
        case.warn(
            "serves-old",
            f"What users see may be an older release{', one that is gone even' if gone else ''}: "
            f"{', '.join(names)} still uses it.",
            "; ".join(map(str, old[:SHOWN])),
            "It serves what it was started with. Restart it now, and have it restarted or reloaded after "
            "each switch:",
            Fix("config.yaml", f'hooks: {{after_switch: ["systemctl --user restart {names[0]}"]}}'),
            live=live, processes=[vars(process) for process in old],
        )  # fmt: skip
    elif nginx and not reloads:
        case.warn(
            "serves-old", "After a switch users see the release before, for up to two minutes, or a mixture.",
            "; ".join(dict.fromkeys(nginx)),
            "nginx hands PHP paths through the link (current/…), and PHP remembers for 120 s where they led. "
            "Hand it the real path, and reload nginx:",
            Fix("host", "sed -i 's/\\$document_root/$realpath_root/' " + quote(nginx[0].split(":")[0])),
            live=live, seen=list(nginx),
        )  # fmt: skip
    else:
        case.ok("serves-old", live=live)


def fetched(case: Case, found: Mapping[str, Sequence[str]], expected: int) -> None:
    """What the health URL has answered. Nothing is concluded from a text that names no release."""
    status = next(iter(found.get("status", ())), "")
    names, older = list(found.get("names", ())), list(found.get("older", ()))
    case.facts["health"] = status or "no answer"
    if older and not names:
        case.fail(
            "serves-old", "Users see an older release: what is served names it, and not the live one.",
            f"the health URL's answer names {', '.join(older[:SHOWN])}",
            "A server, a cache or a worker has not taken up the switch: restart or reload it now, and after "
            "each switch (hooks.after_switch).",
            Fix("config.yaml", 'hooks: {after_switch: ["systemctl --user restart APPLICATION"]}'),
            older=older, status_code=status,
        )  # fmt: skip
    elif "status" in found and status != str(expected):
        case.warn(
            "serves-old",
            "The next deployment would be taken back: the site does not answer as its health check wants.",
            f"asked from the host, the health URL gave {status or 'no answer'}, and {expected} is expected",
            "Whether what is served comes from the live release can't be told so. See the web server's log.",
            status_code=status, expected=expected,
        )  # fmt: skip
