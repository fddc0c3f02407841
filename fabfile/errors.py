"""Everything that Switchover raises on purpose, as one tree.

    SwitchoverError                    exit code 1 unless said otherwise
    ├── ConfigError          (2)       config.yaml or a flag; nothing was contacted
    ├── SourceError                    the local tree can't be deployed as it is
    ├── LocalHookFailed                a local_build command failed
    ├── ConnectionFailed               no connection could be made
    │   ├── HostKeyRefused             unknown (strict) or changed host key; never retried
    │   └── AuthenticationFailed       never retried
    ├── LinkLost                       a connection died; caught and retried inside remote/
    ├── ConnectionLost                 ... and could not be had again within the window
    ├── CommandFailed                  a command on the host said no
    ├── CommandTimedOut                ... or did not end within its time
    ├── JobLost                        a detached command was killed before it ended
    ├── FilesError                     a check from the SFTP side failed
    ├── HostNotReady                   layout, rights, space, missing programs
    ├── Locked               (5)       another deployment holds the lock
    ├── LockLost                       ours was broken while we worked
    ├── VerificationFailed             the built release is not what the manifest says
    ├── HookFailed                     a hook on the host failed
    ├── HealthCheckFailed              the new release does not answer as it should
    ├── NoSuchRelease                  nothing to roll back to
    └── Stopped                        another host failed, so this one did not go on

Each says what happened, why (the evidence seen) and what to try.
"""

from __future__ import annotations


class SwitchoverError(Exception):
    """An error a user can act on.

    what: one sentence, what happened.
    why:  the evidence seen, as text; may have several lines.
    hint: what to try next ("try" in reports).
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """The `error` object of CONTRACT's JSON."""
        return {"what": self.what, "why": self.why, "try": self.hint}


class ConfigError(SwitchoverError):
    """config.yaml, or a flag, is wrong."""

    exit_code = 2


class SourceError(SwitchoverError):
    """The source tree can't be read, or holds something that can't be deployed."""


class LocalHookFailed(SwitchoverError):
    """A local_build command failed."""


class ConnectionFailed(SwitchoverError):
    """A connection could not be made."""


class HostKeyRefused(ConnectionFailed):
    """The host key is unknown (strict) or has changed. Never retried."""


class AuthenticationFailed(ConnectionFailed):
    """The host refused every way to log in that was offered. Never retried."""


class LinkLost(SwitchoverError):
    """The connection died under an operation. `remote` catches it and reconnects."""


class ConnectionLost(SwitchoverError):
    """The connection died and could not be had again within the reconnect window."""


class CommandFailed(SwitchoverError):
    """A command on the host ended with another exit status than 0."""


class CommandTimedOut(SwitchoverError):
    """A command on the host did not end within its time."""


class JobLost(SwitchoverError):
    """A detached command on the host was killed from outside before it ended."""


class FilesError(SwitchoverError):
    """A check from the SFTP side failed, or saw something else than the shell did."""


class HostNotReady(SwitchoverError):
    """The host lacks something a deployment needs: layout, rights, space, a program."""


class Locked(SwitchoverError):
    """Another deployment holds the lock."""

    exit_code = 5


class LockLost(SwitchoverError):
    """Our lock was broken by somebody while we worked."""


class VerificationFailed(SwitchoverError):
    """The release on the host is not what the manifest says."""


class HookFailed(SwitchoverError):
    """A hook on the host failed."""


class HealthCheckFailed(SwitchoverError):
    """The new release does not answer as it should."""


class NoSuchRelease(SwitchoverError):
    """There is no release to roll back to."""


class Stopped(SwitchoverError):
    """Another host of the same deployment failed, so this one did not go on."""
