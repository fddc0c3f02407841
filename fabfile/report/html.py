"""The report of a diagnosis as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis
    from ..diagnosis.finding import Difference


def write(
    path: Path, found: Sequence[Diagnosis], apart: Sequence[Difference], *, anonymous: bool = False
) -> None:
    """Write the page to `path`."""
    raise NotImplementedError
