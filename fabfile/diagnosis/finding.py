"""What a diagnosis finds: findings with stable ids, and what mends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "skip"]

# In the order in which a diagnosis looks at them; each needs what stands before it.
STAGES = (
    "connect", "shell", "sftp", "view", "limits", "idle", "storage", "layout", "configuration", "tools",
    "rehearsal",
)  # fmt: skip


@dataclass(frozen=True)
class Fix:
    """The exact change that mends a finding.

    where: sshd_config (a line of it, on the host), config.yaml (a key and its value, here),
           host (a command to run there), here (a command to run on this machine) or send (a text for the
           hosting company, where no change of ours is known to mend it).
    """

    where: Literal["sshd_config", "config.yaml", "host", "here", "send"]
    change: str


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    id:       a key of CATALOGUE.
    status:   fail: a deployment as configured fails, or may do harm · warn: it works, on a detour or with a
              risk · ok: looked at and in order · skip: not looked at, `why` says what for.
    what:     one sentence. why: the evidence as text. hint: what to do ("try" in reports).
    evidence: the measured values behind it; numbers in seconds and bytes.
    unknown:  of a skip: it should have been looked at, and could not be.
    """

    id: str
    status: Status
    what: str
    why: str = ""
    hint: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: Fix | None = None
    unknown: bool = False

    @property
    def stage(self) -> str:
        """Where on the way to a deployment it stands."""
        return CATALOGUE[self.id].stage

    @property
    def bad(self) -> bool:
        """Whether it is worth a person's attention."""
        return self.status in ("fail", "warn")


@dataclass(frozen=True)
class Entry:
    """A kind of finding. fine: what is so where it is ok. explains: findings that have it as their root."""

    stage: str
    fine: str
    explains: tuple[str, ...] = ()


# What SFTP says where nothing can be written: it does not tell why.
_NO_ROOM = ("sftp-denied", "sftp-readonly", "sftp-broken", "strategy-advice")

_NO_SFTP = ("sftp-missing", "sftp-broken", "sftp-denied", "sftp-readonly")

# What else looks wrong where a connection does not hold, or is very slow.
_NO_LINK = ("peer-lossy", "sftp-broken", "sftp-slow", "server-varies", "unexplained", "jobs-killed-at-logout")

CATALOGUE: dict[str, Entry] = {
    "dns": Entry("connect", "The name resolves."),
    "host-unreachable": Entry("connect", "The network knows a way to the host."),
    "tcp-refused": Entry("connect", "The port is open."),
    "tcp-filtered": Entry("connect", "No firewall swallows the connection."),
    "not-ssh": Entry("connect", "An SSH server answers."),
    "banner-silent": Entry("connect", "It greets without delay."),
    "banner-refused": Entry("connect", "It takes new connections."),
    "kex-mismatch": Entry("connect", "Both sides share algorithms."),
    "hostkey-changed": Entry("connect", "The host key is the one that is known."),
    "hostkey-unknown": Entry("connect", "The host key is known."),
    "auth-too-many": Entry("connect", "The login was tried with no more keys than the server takes."),
    "auth-failed": Entry("connect", "The login was accepted."),
    "jump": Entry("connect", "The jump hosts pass the connection on."),
    "proxy-command": Entry("connect", "The ProxyCommand connects."),
    "key-file": Entry("connect", "The key file can be used."),
    "second-factor": Entry("connect", "One way to log in is enough."),
    "rate-limited": Entry("connect", "New connections are not rationed.", explains=("server-varies",)),
    "slow-login": Entry("connect", "The login takes no longer than it must."),
    "account": Entry("connect", "The account may log in.", explains=("link-cut", "unexplained", *_NO_SFTP)),
    "sftp-only": Entry("shell", "The account is not for SFTP only.", explains=_NO_SFTP),
    "shell-forced": Entry("shell", "Commands are run as they are given.", explains=_NO_SFTP),
    "shell-restricted": Entry("shell", "The shell is not restricted.", explains=_NO_SFTP),
    "shell-noise": Entry("shell", "The shell says nothing of its own accord.", explains=("sftp-broken",)),
    "shell-startup": Entry(
        "shell",
        "The start-up files let commands through.",
        explains=("shell-noise", "tool-missing", "unexplained", *_NO_SFTP),
    ),
    "limits": Entry(
        "shell",
        "The account may have enough processes and files.",
        explains=(
            "unexplained",
            "permissions",
            "no-symlink",
            "tool-missing",
            "sftp-missing",
            "sftp-broken",
            "server-varies",
        ),
    ),
    "umask": Entry("shell", "Others can read what the account writes.", explains=("sftp-denied",)),
    "home-missing": Entry("shell", "The home directory is there."),
    "max-sessions": Entry(
        "limits", "One connection carries enough sessions.", explains=("sftp-missing", "sftp-broken")
    ),
    "sftp-missing": Entry("sftp", "There is an SFTP subsystem."),
    "sftp-broken": Entry("sftp", "It speaks SFTP."),
    "sftp-denied": Entry("sftp", "It answers every request that is needed."),
    "sftp-readonly": Entry("sftp", "It takes writes.", explains=("sftp-denied",)),
    "view-chroot": Entry("view", "SFTP and the shell call paths the same.", explains=("view-split",)),
    "view-split": Entry("view", "SFTP and the shell see one tree."),
    "server-varies": Entry(
        "view", "Each connection reaches the same server.", explains=("view-split", "hostkey-changed")
    ),
    "mtu": Entry("limits", "Large packets arrive.", explains=("link-cut", *_NO_LINK)),
    "link-cut": Entry("limits", "The connection holds.", explains=_NO_LINK),
    "slow-link": Entry(
        "limits",
        "The network is fast enough.",
        explains=("link-cut", "sftp-slow", "slow-login", "unexplained"),
    ),
    "sftp-slow": Entry("limits", "SFTP answers as fast as the network lets it."),
    "peer-lossy": Entry("limits", "The network loses next to nothing.", explains=("sftp-slow",)),
    "idle-balancer": Entry(
        "idle", "No load balancer drops idle connections.", explains=("keepalive-too-slow",)
    ),
    "idle-nat": Entry(
        "idle", "No NAT or firewall forgets idle connections.", explains=("keepalive-too-slow",)
    ),
    "idle-server": Entry("idle", "sshd does not drop idle connections.", explains=("keepalive-too-slow",)),
    "idle-channel": Entry("idle", "sshd does not close idle channels.", explains=("keepalive-too-slow",)),
    "keepalive-too-slow": Entry("idle", "The keepalive is fast enough."),
    "path-hangs": Entry(
        "storage",
        "Each path under deploy_to answers.",
        explains=("unexplained", "permissions", "no-symlink", "release-broken"),
    ),
    "deploy-to-odd": Entry(
        "storage",
        "deploy_to is a directory, or can become one.",
        explains=("permissions", "current-not-link"),
    ),
    "immutable": Entry("storage", "Nothing is locked against changes.", explains=("permissions",)),
    "read-only": Entry("storage", "The file system can be written to.", explains=("permissions", *_NO_ROOM)),
    "disk-full": Entry("storage", "There is room.", explains=_NO_ROOM),
    "inodes-full": Entry("storage", "There are inodes.", explains=_NO_ROOM),
    "quota": Entry("storage", "No quota stands in the way.", explains=_NO_ROOM),
    "permissions": Entry("storage", "The account may write where it has to."),
    "cross-device": Entry(
        "storage", "deploy_to is one file system.", explains=("no-reflink", "strategy-advice")
    ),
    "no-symlink": Entry("storage", "Symlinks can be made.", explains=("no-atomic-rename", "sftp-denied")),
    "no-atomic-rename": Entry("storage", "A link can be replaced in one step."),
    "no-reflink": Entry("storage", "The file system copies as the settings want it."),
    "current-not-link": Entry(
        "layout", "current is a symlink, or not there yet.", explains=("layout-mixed",)
    ),
    "layout-mixed": Entry("layout", "No other tool deploys there."),
    "lock-stale": Entry("layout", "No lock is left over."),
    "release-broken": Entry("layout", "The live release is whole."),
    "serves-old": Entry("layout", "What is served comes from the live release."),
    "jobs-killed-at-logout": Entry("configuration", "Jobs outlive the session that started them."),
    "clock-skew": Entry("configuration", "The clocks agree."),
    "strategy-advice": Entry("configuration", "The strategy fits the host."),
    "tool-missing": Entry("tools", "The programs that are needed are there."),
    "rehearsal": Entry("rehearsal", "A small deployment works from beginning to end."),
    "unexplained": Entry("tools", "Nothing was left unexplained."),
}


@dataclass(frozen=True)
class IdleLife:
    """What one idle connection lived through.

    name: what kept it, or did not ("bare", "SSH keepalive", …). lived: seconds until its end, or until the
    wait was over. end: ok, closed (FIN), reset, silence, or channel-closed.
    """

    name: str
    lived: float
    end: str


@dataclass(frozen=True)
class Root:
    """A finding and those that it explains."""

    finding: Finding
    explains: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The end of a diagnosis: one sentence, then the roots, the likeliest first."""

    what: str
    roots: tuple[Root, ...] = ()


@dataclass(frozen=True)
class Login:
    """How the host was asked for: by which user, under which name, and the name or address behind that.

    others: what else was named on the way or by the host, a person, machine or host, and which of them it is.
    """

    user: str = ""
    named: str = ""
    host: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Diagnosis:
    """What was found out about one host.

    findings: roots first, each followed by what it explains, then what is ok, then what was skipped.
    facts:    what the host is ("server", "user", "file system", …), in words.
    seconds:  how long each stage took.
    """

    host: str
    findings: list[Finding] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict(""))
    facts: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    idle: list[IdleLife] = field(default_factory=list)
    incident: Mapping[str, Any] | None = None  # the failed deployment that it looked into
    login: Login = field(default_factory=Login)

    @property
    def ok(self) -> bool:
        """Whether no finding failed."""
        return all(finding.status != "fail" for finding in self.findings)


@dataclass(frozen=True)
class Difference:
    """A fact in which some hosts differ from the others. values: what it is -> the hosts."""

    fact: str
    values: Mapping[str, tuple[str, ...]]
