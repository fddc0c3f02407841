"""What became of a command, and of each host: what the functions of `fleet` return, and reports show."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import SwitchoverError
from .on_host.manifest import Difference

UNKNOWN = "unknown"  # HostResult.live, where nobody could look


@dataclass
class ServedAgain:
    """What came of a release that is live again after a switch back.

    hooks, health: "ok", "failed", "unknown" (begun, and its end not seen) or "none" (there were none, or they
    were not begun). error: the first one.
    """

    hooks: str = "none"
    health: str = "none"
    error: SwitchoverError | None = None
    may_serve_other: bool = False  # services may still run what they took up from the release that was left


@dataclass
class HostResult:
    """What became of one host: an entry of `hosts` in docs/json.md.

    live: what is live in the end, None where nothing is, UNKNOWN. again: set where a link was put back.
    phases: seconds by step. plan, drift: what --plan and --verify have found, where that was asked for.
    seeds: files of the source that shared/ has begun with. unserved: those that the site does not serve.
    """

    host: str
    ok: bool = True
    release: str | None = None
    previous: str | None = None
    live: str | None = UNKNOWN
    again: ServedAgain | None = None
    strategy: str = ""
    transfer: str = ""
    copy: str = ""
    files_uploaded: int = 0
    files_deleted: int = 0
    bytes_uploaded: int = 0
    reconnects: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    error: SwitchoverError | None = None
    plan: Difference | None = None
    drift: dict[str, list[str]] | None = None
    seeds: list[str] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)

    @property
    def failed_in(self) -> str:
        """The step that failed; "" where none did, or what failed was none."""
        return self.error.step if self.error else ""

    def count(self, done: Difference) -> None:
        """Add what was uploaded and deleted."""
        self.files_uploaded += len(done.uploads)
        self.files_deleted += len([e for e in done.deleted if e.kind != "dir"])
        self.bytes_uploaded += done.size

    def fail(self, error: SwitchoverError) -> None:
        """It did not work. The first error is the one that is kept."""
        self.ok = False
        if self.error is None:
            self.error = error


@dataclass
class Outcome:
    """What became of a command. exit_code: see docs/json.md; `error` is the one to read first.

    served: after a switch back, what each host serves now: a sentence for those of which the same is true.
    """

    exit_code: int = 0
    error: SwitchoverError | None = None
    hosts: list[HostResult] = field(default_factory=list)
    served: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all of it was done."""
        return self.exit_code == 0
