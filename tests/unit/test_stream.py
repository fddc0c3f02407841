"""The tar that a stream is made of."""

from __future__ import annotations

import io
import tarfile

import pytest

from fabfile.build.transfers import stream
from fabfile.on_host.manifest import Entry

FILES = [
    Entry("index.html", "file", 0o644, 0, 0),
    Entry("deep/er/ünï\udcff", "file", 0o4755, 123456789, 1_700_000_000),
    Entry("x" * 100, "file", 0o600, 8**11 - 1, 8**11 - 1),
    Entry("x" * 101, "file", 0o644, 1, 1),
    Entry("large", "file", 0o644, 8**11, 1),
]


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry.path[:12])
def test_a_header_is_what_pythons_tarfile_would_write(entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mode, member.mtime, member.size = entry.mode, entry.mtime, entry.size
    header = stream._header(entry)
    assert header == member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024)), errors="surrogateescape") as archive:
        read = archive.next()
    assert read is not None and (read.name, read.size, read.mode) == (entry.path, entry.size, entry.mode)
