"""What a folder may hold, and how it may change while it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabfile.build.source import source
from fabfile.errors import SourceError
from fabfile.on_host.manifest import Entry


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "site/d").mkdir(parents=True)
    (tmp_path / "site/d/file").write_text("ours")
    return tmp_path / "site"


def test_special_bits_do_not_travel_and_are_told(folder: Path) -> None:
    (folder / "d/file").chmod(0o4755)
    found = source.scan(folder, (), ())
    entry = found.manifest.get("d/file")
    assert entry is not None and entry.mode == 0o755
    assert any("d/file" in note for note in found.notes)


def test_a_chain_of_links_that_leads_out_is_refused(folder: Path) -> None:
    (folder / "up").symlink_to("d/..")
    (folder / "d/deep").symlink_to("../up/../x")
    with pytest.raises(SourceError) as caught:
        source.scan(folder, (), ())
    assert "'d/deep'" in caught.value.why and "'up'" not in caught.value.why


def test_links_in_a_circle_are_told(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert any("'a', 'b'" in note for note in source.scan(folder, (), ()).notes)


@pytest.mark.parametrize("swap", ["link", "folder", "fifo"])
def test_what_was_swapped_sends_nothing(folder: Path, tmp_path: Path, swap: str) -> None:
    found = source.scan(folder, (), ())
    entry = found.manifest.get("d/file")
    assert isinstance(entry, Entry)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("evil")  # of the same size
    if swap == "folder":
        (folder / "d").rename(tmp_path / "away")
        (folder / "d").symlink_to(outside)
    else:
        (folder / "d/file").unlink()
        if swap == "link":
            (folder / "d/file").symlink_to(outside / "file")
        else:
            os.mkfifo(folder / "d/file")
    sent = []
    with pytest.raises(SourceError):
        sent += list(found.read(entry))
    with pytest.raises(SourceError):
        sent.append(found.sample(entry, 0, 4))
    with pytest.raises(SourceError):
        found.copy([entry], tmp_path / "copied")
    assert sent == []


def test_the_same_content_anew_is_the_same(folder: Path) -> None:
    found = source.scan(folder, (), ())
    (folder / "d/file").rename(folder / "old")
    (folder / "d/file").write_text("ours")
    entry = found.manifest.get("d/file")
    assert entry is not None and b"".join(found.read(entry)) == b"ours"


@pytest.mark.parametrize("seconds", [-5, 2**32 + 5, 2**33 + 5])
def test_times_that_transfers_cannot_say_are_clamped(folder: Path, seconds: int) -> None:
    os.utime(folder / "d/file", (seconds, seconds))
    entry = source.scan(folder, (), ()).manifest.get("d/file")
    assert entry is not None and 0 <= entry.mtime < 2**32
