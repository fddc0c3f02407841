"""What is to be built, as values: an order for all hosts, and what it comes to on one of them."""

from __future__ import annotations

from typing import NamedTuple

from ..on_host.layout import Layout
from ..on_host.manifest import Difference, Manifest, RemoteContents
from ..on_host.records import Record
from ..session.session import HostSession, HostView
from .source.source import Source


class Order(NamedTuple):
    """A source that is to be on the hosts. from_scratch: nothing is built upon that is there already."""

    source: Source
    from_scratch: bool = False

    @property
    def wanted(self) -> Manifest:
        """All that is to be there."""
        return self.source.manifest


class Comparison(NamedTuple):
    """What a directory holds as far as we know, and what it lacks of the source."""

    known: RemoteContents
    difference: Difference

    @classmethod
    def of(cls, known: RemoteContents, wanted: Manifest) -> Comparison:
        """Compare."""
        return cls(known, known.difference(wanted))


class Plan(NamedTuple):
    """One release that is to come about on one host.

    record: as it begins. resumed: an interrupted deployment had begun it.
    """

    session: HostSession
    order: Order
    record: Record
    resumed: bool = False

    @property
    def id(self) -> str:
        """The release."""
        return self.record.id

    @property
    def wanted(self) -> Manifest:
        """What it is to hold."""
        return self.order.wanted

    @property
    def layout(self) -> Layout:
        """Where things are."""
        return self.session.layout

    @property
    def directory(self) -> str:
        """The release's directory."""
        return self.layout.release(self.id)

    @property
    def state(self) -> str:
        """The folder of its record and manifest."""
        return self.layout.state_of(self.id)


def links_of_live(view: HostView) -> list[str]:
    """The paths that are links to shared/ in the live release."""
    record = view.state.records.get(view.state.live or "")
    return record.shared if record else []
