"""What a scan remembers from one to the next."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from fabfile.build.source import scan as scanning
from fabfile.build.source import source
from fabfile.build.source.scan import open_file
from fabfile.build.source.source import Source

CONTENT = {"plain": b"1", "d/with space": b"2", "d/back\\slash": b"3", "new\nline": b"4", "d/\udcff": b"5"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source, in a home of its own, whose files are old enough to be remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(scanning, "SETTLED", -(10**18))
    for name, data in CONTENT.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "site"


def scan(folder: Path) -> Source:
    found = source.scan(folder, (), ())
    for thread in threading.enumerate():
        if thread.name == "remember":
            thread.join(30)
    return found


def right(found: Source) -> bool:
    return all(found.manifest.entries[n].content == hashlib.sha256(d).hexdigest() for n, d in CONTENT.items())


def test_what_did_not_change_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(folder)
    read: list[str] = []

    def noting(path: str, *wanted: Any) -> int:
        read.append(Path(path).name)
        return open_file(path, *wanted)

    monkeypatch.setattr(scanning, "open_file", noting)
    second = scan(folder)
    assert right(first)
    assert (second.manifest.entries, second.tree) == (first.manifest.entries, first.tree)
    assert read == ["new\nline"]  # see remembered.keep_digests
    (folder / "plain").write_bytes(b"6")
    third = scan(folder)
    assert third.manifest.entries["plain"].content == hashlib.sha256(b"6").hexdigest()
    assert sorted(read) == ["new\nline", "new\nline", "plain"]


def test_a_damaged_memory_is_no_memory(folder: Path, tmp_path: Path) -> None:
    scan(folder)
    (memory,) = (tmp_path / "cache/switchover").glob("*.source")
    whole = memory.read_bytes()
    known = hashlib.sha256(b"1").hexdigest().encode()
    assert known in whole
    for damaged in (whole.replace(known, b"0" * 64), whole[:-9], whole[90:], b"", b"\xff\xfe\n"):
        memory.write_bytes(damaged)
        assert right(scan(folder))
