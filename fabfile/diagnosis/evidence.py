"""What was seen of a host: for each ability that a deployment relies on, whether it was seen to work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Answer = Literal["seen", "not seen", "unknown"]


@dataclass(frozen=True)
class Ability:
    """Something that a deployment relies on. says: what was seen to work. excludes: what that rules out.

    at: the stage at which a deployment meets it. basic: without it no deployment can work, whatever the
    settings say.
    """

    says: str
    excludes: str
    at: str
    basic: bool = True


# In the order in which a deployment meets them.
ABILITIES: Mapping[str, Ability] = {
    "port": Ability("the port takes a connection", "a host that is down, a firewall", "connect"),
    "greeting": Ability("an SSH server greets", "a wrong port, a limit on new connections", "connect"),
    "keys": Ability("keys are exchanged", "algorithms that don't fit", "connect"),
    "login": Ability("the login is accepted", "a wrong key or user, a locked account", "connect"),
    "command": Ability(
        "a command runs, and its answer is the computed one",
        "a forced command, a restricted shell, start-up files that end or replace the shell", "shell",
    ),
    "long command": Ability(
        "a command as long as a deployment's runs", "a limit on the length of requests", "shell",
    ),
    "programs": Ability("the programs are there", "a PATH without them", "tools"),
    "upload": Ability(
        "a megabyte arrives there", "a firewall or tunnel that cuts or swallows what is large", "limits",
    ),
    "download": Ability(
        "a megabyte arrives here", "a firewall or tunnel that cuts or swallows what is large", "limits",
    ),
    "sftp": Ability("SFTP answers", "a missing or broken SFTP server", "sftp", basic=False),
    "sftp upload": Ability("a megabyte arrives by SFTP, and comes back the same", "a limit of SFTP's", "sftp",
                           basic=False),
    "same server": Ability("a second login reaches the same server", "a load balancer", "view", basic=False),
    "paths": Ability("each path under deploy_to answers", "a mount whose server is gone", "storage"),
    "folders": Ability(
        "files are made, renamed and removed in each folder",
        "missing rights, a full disk, a quota, a file system that is read-only", "storage",
    ),
    "link": Ability(
        "a link is made, and replaced in one step", "a file system without symlinks or renames", "storage",
    ),
    "current": Ability("current can be switched", "a real directory in its place", "layout"),
}  # fmt: skip
NEEDS_DEPLOY_TO = ("paths", "folders", "link", "current")


@dataclass(frozen=True)
class Sight:
    """One ability, as it was tried. seconds: how long that took. words: what was said, as it came."""

    answer: Answer
    seconds: float | None = None
    words: str = ""


UNKNOWN = Sight("unknown")


class Sights:
    """All of them, by ability; what was not tried, or gave no clear answer, is unknown."""

    def __init__(self) -> None:
        self._all: dict[str, Sight] = {}

    def __getitem__(self, ability: str) -> Sight:
        return self._all.get(ability, UNKNOWN)

    def note(self, ability: str, answer: Answer, words: str = "", seconds: float | None = None) -> None:
        """Keep what was seen of an ability (a key of ABILITIES); the last look counts."""
        if ability not in ABILITIES:
            raise ValueError(ability)
        self._all[ability] = Sight(answer, seconds, words)

    def those(self, answer: Answer, among: Iterable[str] = ABILITIES) -> list[str]:
        """The abilities of which this is the answer."""
        return [ability for ability in among if self[ability].answer == answer]

    def excluded(self) -> str:
        """What all that was seen rules out, for a person."""
        seen = self.those("seen")
        return "; ".join(dict.fromkeys(ABILITIES[ability].excludes for ability in seen))

    def told(self) -> str:
        """What was seen and what was not, for a person."""
        lines = []
        for ability in ABILITIES:
            sight = self[ability]
            took = f" ({sight.seconds:.2f} s)" if sight.seconds is not None else ""
            if sight.answer == "seen":
                lines.append(f"seen: {ABILITIES[ability].says}{took}")
            elif sight.answer == "not seen":
                lines.append(f"not seen: {ABILITIES[ability].says}{took}: {sight.words}".rstrip(": "))
        return "\n".join(lines)

    def as_rows(self) -> list[dict[str, Any]]:
        """For a document: one row an ability that was tried."""
        return [
            {"ability": ability, "answer": self[ability].answer, "seconds": self[ability].seconds,
             "words": self[ability].words}
            for ability in ABILITIES
        ]  # fmt: skip
