"""A sample of the hosts that docs/where-it-works.md lists; `inv hosts` tries all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.host_matrix import Row, round_on, rows, sample
from tests.support.skipping import unavailable

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("clean_environment", "sshd_installed")]


@pytest.mark.parametrize("row", sample(rows()), ids=lambda row: row.name)
def test_a_host_as_people_have_it(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, file by file, with no note that is not true; or it is refused soon, and says why."""
    if os.geteuid() != 0:
        unavailable("accounts with other login shells need root")
    monkeypatch.delenv("SHLVL", raising=False)  # else bash takes itself for a shell in a shell
    with row.make() as place:
        seen = round_on(place, tmp_path / "source")
        place.close()
    assert bool(seen.refused) != row.works, seen
    assert row.because in seen.refused
    if row.works:
        assert all("SFTP can't be used" in note for note in seen.notes), seen.notes
