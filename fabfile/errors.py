"""Everything that Switchover raises on purpose, as one tree.

    SwitchoverError                    exit code 1 unless said otherwise
    ├── ConfigError          (2)       config.yaml or a flag; nothing was contacted
    ├── SourceError                    the local tree can't be deployed as it is
    ├── LocalHookFailed                a local_build command failed
    ├── ConnectionFailed               no connection could be made
    │   ├── HostKeyRefused             unknown (strict), changed or revoked host key; never retried
    │   └── AuthenticationFailed       never retried
    │       └── KeyFileUnusable        ... because of a file here
    ├── OwnMistake                     an exception that nobody expected: ours
    ├── LinkLost                       a connection died; caught and retried inside remote/
    ├── ConnectionLost                 ... and could not be had again within the window
    ├── CommandFailed                  a command on the host said no
    ├── AnswerNotUnderstood            what the host said is not what its command prints
    ├── CommandTimedOut                ... or did not end within its time
    ├── JobLost                        a detached command was killed before it ended
    ├── FilesError                     a check from the SFTP side failed
    ├── HostNotReady                   layout, rights, space, missing programs
    ├── Locked               (5)       another deployment holds the lock
    ├── LockLost                       ours was broken while we worked
    ├── VerificationFailed             the built release is not what the manifest says
    ├── HookFailed                     a hook on the host failed
    ├── HealthCheckFailed              the new release does not answer as it should
    ├── Refused                        the script that called us does not want a phase (on_phase)
    ├── NoSuchRelease                  nothing to roll back to
    └── Stopped                        another host failed, so this one did not go on

Each says what happened, why (the evidence seen) and what to try: sentences, for people. What code and the
JSON documents go by are fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Why a command on the host failed, where that has a known cure: SwitchoverError.reason.
NO_SPACE, QUOTA, READ_ONLY = "no-space", "quota", "read-only"
DENIED, NOT_PERMITTED = "denied", "not-permitted"

# What strerror says of it under LC_ALL=C; glibc, musl and BSD.
_SAID = {
    "No space left on device": NO_SPACE,
    "Disk quota exceeded": QUOTA,
    "Quota exceeded": QUOTA,
    "Disc quota exceeded": QUOTA,
    "Read-only file system": READ_ONLY,
    "Permission denied": DENIED,
    "Operation not permitted": NOT_PERMITTED,
}

_CURES = {
    NO_SPACE: "Free space (df -h) or inodes (df -i) there, or lower keep_releases.",
    QUOTA: "The account's quota is used up: free some of it, or have it raised.",
    READ_ONLY: "The file system is mounted read-only: ask whoever runs the host.",
    DENIED: "See who owns that path there (ls -ld), and make it writable for this account.",
    NOT_PERMITTED: "See who owns that path there (ls -ld), and what the file system allows.",
}


def classify(said: str) -> str:
    """Why a command failed, from what it printed in the C locale: one of the reasons above, or ""."""
    return next((reason for words, reason in _SAID.items() if words in said), "")


class SwitchoverError(Exception):
    """An error a user can act on.

    what: one sentence, what happened.
    why:  the evidence seen, as text; may have several lines.
    hint: what to try next ("try" in reports).
    step: the step in which it happened; "" where it was in none, or none is known.
    reason: why, as one of the words that docs/json.md lists; "" where it is none of them.
    status: the exit status of the command that failed; None where none did, or its end was not seen.
    output: the last lines that the command printed, else "".
    task: a task of ours that helps, with its flags: ("unlock", "--force"); () where none does.
    commands: what to type on this machine, in turn, complete; the hint has these lines too.
    """

    exit_code = 1
    reason = ""

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        reason: str = "",
        status: int | None = None,
        output: str = "",
        task: tuple[str, ...] = (),
        commands: Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.step = ""
        self.reason = reason or self.reason
        self.status = status
        self.output = output
        self.task = task
        self.commands = list(commands)

    def as_dict(self) -> dict[str, Any]:
        """The `error` object of the JSON documents (docs/json.md)."""
        return {
            "what": self.what,
            "why": self.why,
            "try": self.hint,
            "step": self.step or None,
            "reason": self.reason or None,
            "status": self.status,
            "output": self.output or None,
            "commands": self.commands,
        }


class ConfigError(SwitchoverError):
    """config.yaml, or a flag, is wrong."""

    exit_code = 2


class SourceError(SwitchoverError):
    """The source tree can't be read, or holds something that can't be deployed."""


class LocalHookFailed(SwitchoverError):
    """A local_build command failed."""


class ConnectionFailed(SwitchoverError):
    """A connection could not be made.

    stage: how far it came: tcp, greeting, key exchange or login; "" where that is not known.
    cause: what ended it there, one of remote.failures.CAUSES.
    answered: whether anything has come from the host, a TCP connection at least.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        stage: str = "",
        cause: str = "",
        answered: bool = True,
        reason: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        super().__init__(what, why, hint, reason=reason or cause.replace(" ", "-"), commands=commands)
        self.stage = stage
        self.cause = cause
        self.answered = answered


class HostKeyRefused(ConnectionFailed):
    """The host key is not taken. Never retried.

    problem: unknown, changed, revoked or unreadable (a file). shown, known: fingerprints. file: where the key
    is known.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        problem: str = "",
        shown: str = "",
        known: str = "",
        file: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        reason = f"host-key-{problem}" if problem else ""
        super().__init__(
            what, why, hint, stage="key exchange", cause="host key", reason=reason, commands=commands
        )
        self.problem = problem
        self.shown = shown
        self.known = known
        self.file = file


class AuthenticationFailed(ConnectionFailed):
    """The host refused every way to log in that was offered. Never retried.

    methods: those that the server takes, as far as it has said. offered: what was tried. partial: it took
    something of that, and wants more. farewell: the words with which it ended the connection, if it did.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        methods: tuple[str, ...] = (),
        offered: tuple[str, ...] = (),
        partial: bool = False,
        farewell: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(what, why, hint, stage="login", cause="login refused", reason=reason)
        self.partial = partial
        self.farewell = farewell
        self.methods = methods
        self.offered = offered


class KeyFileUnusable(AuthenticationFailed):
    """A key file that was named can't be used, and nothing else opened the door.

    problem: missing, unreadable, open, public, encrypted or damaged.
    """

    def __init__(self, what: str, why: str, hint: str, *, path: str, problem: str, **fields: Any) -> None:
        super().__init__(what, why, hint, reason=f"key-file-{problem}", **fields)
        self.path = path
        self.problem = problem


class OwnMistake(SwitchoverError):
    """An exception of our own code that nobody expected: no fault of the host's, nor of the user's."""


class LinkLost(SwitchoverError):
    """The connection died under an operation. `remote` catches it and reconnects."""


class ConnectionLost(SwitchoverError):
    """The connection died and could not be had again within the reconnect window."""

    reason = "lost-connection"


class CommandFailed(SwitchoverError):
    """A command on the host ended with another exit status than 0.

    script: which one, where several travel together (Script.id), else "". reason: see classify.
    """

    def __init__(
        self, what: str, why: str = "", hint: str = "", *, script: str = "", reason: str = "", **fields: Any
    ) -> None:
        super().__init__(what, why, hint or _CURES.get(reason, ""), reason=reason, **fields)
        self.script = script


class AnswerNotUnderstood(SwitchoverError):
    """The host said something else than the command prints: nothing is assumed, and nothing goes on."""


class CommandTimedOut(SwitchoverError):
    """A command on the host did not end within its time."""

    reason = "timed-out"


class JobLost(SwitchoverError):
    """A detached command on the host was killed from outside before it ended."""

    reason = "killed"


class FilesError(SwitchoverError):
    """A check from the SFTP side failed, or saw something else than the shell did."""


class HostNotReady(SwitchoverError):
    """The host lacks something a deployment needs: layout, rights, space, a program."""


class Locked(SwitchoverError):
    """Another deployment holds the lock."""

    exit_code = 5
    reason = "locked"


class LockLost(SwitchoverError):
    """Our lock was broken by somebody while we worked."""

    reason = "lost-lock"


class VerificationFailed(SwitchoverError):
    """The release on the host is not what the manifest says."""


class HookFailed(SwitchoverError):
    """A hook on the host failed. number: which of several, counted from 1."""

    def __init__(self, what: str, why: str = "", hint: str = "", *, number: int = 1, **fields: Any) -> None:
        super().__init__(what, why, hint, **fields)
        self.number = number


class HealthCheckFailed(SwitchoverError):
    """The new release does not answer as it should."""


class Refused(SwitchoverError):
    """The script that called us has refused a phase (on_phase). Its own exception is the __cause__."""

    def __init__(self, what: str, why: str = "", hint: str = "", *, phase: str = "") -> None:
        super().__init__(what, why, hint)
        self.phase = phase


class NoSuchRelease(SwitchoverError):
    """There is no release to roll back to."""


class Stopped(SwitchoverError):
    """Another host of the same deployment failed, so this one did not go on."""

    reason = "stopped"
