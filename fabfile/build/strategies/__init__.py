"""The ways to build a release. Each owns all in which it differs from the others.

cache:    upload the changes into cache/, then copy the cache to the release.
          What somebody edited in the live release does not carry over.
previous: copy the live release, then upload the changes into the copy. It does.
"""

from __future__ import annotations

from .cache import CacheStrategy
from .previous import PreviousStrategy
from .strategy import Strategy

__all__ = ["CacheStrategy", "Strategy", "choose"]

_ALL: tuple[Strategy, ...] = (CacheStrategy(), PreviousStrategy())


def choose(name: str) -> Strategy:
    """The strategy that the settings name."""
    return {strategy.name: strategy for strategy in _ALL}[name]
