"""What a command has that makes a release live: for all hosts together, and on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..session.going_live import GoingLive
from ..session.session import HostSession, HostView
from ..session.steps import Steps


class Release(Protocol):
    """One host on its way to a release, under our lock. Each of these may be cut at any point."""

    session: HostSession
    live: GoingLive

    @property
    def steps(self) -> Steps:
        """The steps of this host."""

    def prepare(self) -> None:
        """Have the release there, whole and unseen by anybody."""

    def switch(self) -> None:
        """Make it live."""

    def prove(self) -> None:
        """Raise where it does not do what it should now that it is live."""

    def confirm(self) -> None:
        """From here on it stays live."""

    def finish(self) -> None:
        """Write down what became of it, tidy up, unlock."""

    def switch_back(self) -> None:
        """Put back what was live before."""

    def serve_again(self) -> None:
        """Have services take up what was put back."""

    def abandon(self) -> None:
        """Take back what was prepared."""


R = TypeVar("R", bound=Release, covariant=True)


class Command(Protocol[R]):
    """What is asked for, of all hosts."""

    def require(self, view: HostView) -> None:
        """Raise HostNotReady where a host lacks what a later step needs."""

    def choose(self, sessions: Sequence[HostSession]) -> str:
        """The id of the release for all hosts, of which these have a session. Raises NoSuchRelease."""

    def begin(self, session: HostSession, release: str) -> R:
        """Begin on one host."""
