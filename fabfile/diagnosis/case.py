"""What is known about one host. Rules read it and add findings to it; nothing here can reach the host."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ..events import count
from ..settings import Settings
from .evidence import Answer, Sights
from .finding import CATALOGUE, Finding, Fix, Status

# Accounts of every system: their names tell nothing about anybody.
COMMON = {"root", "www-data", "nobody", "nginx", "apache", "http", "daemon", "bin", "sys", "users", "staff"}
LOSSES_LIMIT = 3  # connections lost, wherever, after which it is no chance


@dataclass(frozen=True)
class Loss:
    """A connection that died under a probe. stage: of the probe. lived: seconds since the login."""

    stage: str
    lived: float
    cause: str


class Case:
    """Facts, sights and findings of one host.

    said: what the shell's first script answered, by key. abilities: what later probes need; "" where it was
    shown, else the finding that prevents it. since: when the last login was, in time.monotonic().
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.findings: dict[str, Finding] = {}
        self.sights = Sights()
        self.facts: dict[str, str] = {}
        self.abilities: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self.round_trip = 0.0  # seconds
        self.losses: list[Loss] = []
        self.names: dict[str, str] = {}  # people, machines and hosts that were named, and which of them it is
        self.mistakes: list[str] = []  # of ours: exceptions that nobody expected
        self.since = time.monotonic()

    def named(self, what: str, *names: str) -> None:
        """These are names of a `what`: user, machine or jump host. An anonymous report leaves them out."""
        self.names.update({name: what for name in names if len(name) > 1 and name not in COMMON})

    # -- sights ----------------------------------------------------------------------------------------

    def saw(self, ability: str, words: str = "", seconds: float | None = None) -> None:
        """It was seen to work."""
        self.sights.note(ability, "seen", words, seconds)

    def missed(self, ability: str, words: str, seconds: float | None = None) -> None:
        """It was tried, and does not work."""
        self.sights.note(ability, "not seen", words, seconds)

    def note(self, ability: str, answer: Answer, words: str = "", seconds: float | None = None) -> None:
        """It was tried, with this answer."""
        self.sights.note(ability, answer, words, seconds)

    # -- findings --------------------------------------------------------------------------------------

    def ok(self, id: str, what: str = "", /, **evidence: Any) -> None:
        """It was looked at, and is in order."""
        self._put(Finding(id, "ok", what or CATALOGUE[id].fine, evidence=evidence))

    def warn(
        self, id: str, what: str, why: str = "", hint: str = "", fix: Fix | None = None, /, **evidence: Any
    ) -> None:
        """A deployment works, on a detour or with a risk."""
        self.judge("warn", id, what, why, hint, fix, **evidence)

    def fail(
        self, id: str, what: str, why: str = "", hint: str = "", fix: Fix | None = None, /, **evidence: Any
    ) -> None:
        """A deployment as configured fails, or may do harm."""
        self.judge("fail", id, what, why, hint, fix, **evidence)

    def judge(
        self,
        status: Status,
        id: str,
        what: str,
        why: str = "",
        hint: str = "",
        fix: Fix | None = None,
        /,
        **evidence: Any,
    ) -> None:
        """A finding whose status was worked out."""
        self._put(Finding(id, status, what, why, hint, evidence, fix))

    def skip(self, id: str, why: str, *, unknown: bool = True) -> None:
        """It was not looked at; unknown: though it should have been."""
        self._put(Finding(id, "skip", "Not looked at.", why, unknown=unknown))

    def _put(self, finding: Finding) -> None:
        known = self.findings.get(finding.id)
        # What was measured later wins over what was read before; nothing bad is taken back.
        if known is None or not known.bad or finding.status in ("fail", known.status):
            self.findings[finding.id] = finding

    def unexplained(self, stage: str, seen: str, /, **evidence: Any) -> None:
        """Something went wrong that no rule explains; the verdict adds all that was seen besides."""
        self.fail(
            "unexplained", f"Something is wrong at {stage}, and nothing known explains it.", seen,
            **{"stage": stage, **evidence},
        )  # fmt: skip

    def lost(self, stage: str, cause: str, *, again: bool) -> None:
        """The connection died under a probe; again: for the second time in the same one.

        Once may be chance, which deployments reconnect after; it is told nevertheless.
        """
        self.losses.append(Loss(stage, round(time.monotonic() - self.since, 1), cause))
        lost = self.losses
        often = again or len(lost) >= LOSSES_LIMIT
        self.judge(
            "fail" if often else "warn", "link-cut",
            f"{'Deployments break off' if often else 'Deployments may break off'}: the connection was lost "
            f"{count(len(lost), 'time')} while it was looked at.",
            "; ".join(f"{loss.lived:g} s after the login, at {loss.stage}: {loss.cause}" for loss in lost),
            "Something between here and the host ends connections (a firewall that inspects, a load "
            "balancer, a proxy with a limit), or the host does. Try from another network; if it is the "
            "same, have the host's side looked at: its log says whether sshd ended them.",
            losses=[vars(loss) for loss in lost],
        )  # fmt: skip

    def bad(self, id: str) -> bool:
        """Whether `id` was found, as a failure or a warning."""
        return id in self.findings and self.findings[id].bad

    def grant(self, *abilities: str) -> None:
        """The host has shown these."""
        self.abilities.update(dict.fromkeys(abilities, ""))

    def has(self, ability: str) -> bool:
        """Whether the host has shown it."""
        return self.abilities.get(ability) == ""

    @property
    def sftp_status(self) -> Status:
        """How bad trouble with SFTP is: deployments do without it, unless the settings want it."""
        wants = self.settings.ssh.sftp == "require" or self.settings.transfer == "sftp"
        return "fail" if wants else "warn"
