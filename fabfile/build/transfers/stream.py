"""stream: all files as one compressed tar through one exec channel."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ...on_host.manifest import Entry
from ...remote.host import Host
from ...remote.shell import quote
from ..source.source import Source
from .transfer import Tally

SEND = 1 << 17  # bytes gathered before they are sent
SAMPLED = 8 << 20  # bytes; below that compression costs nothing anyway
SAMPLES, SAMPLE = 16, 1 << 15  # how many, and bytes each
WORTH_IT = 0.95  # of the size


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class StreamTransfer:
    """One tar, packed here, unpacked there; zstd where the host has it, else gzip, else plain."""

    name = "stream"

    def __init__(self, host: Host) -> None:
        self.host = host

    def send(self, source: Source, entries: Sequence[Entry], staging: str, tally: Tally) -> None:
        """See Transfer.send."""
        program, make = self._compression() if _compresses(source, entries) else ("", _Plain)
        unpack = "tar -x -p -o -f -"
        if program:
            unpack = f"{program} -dc | {unpack}"

        def blocks() -> Iterator[bytes]:
            return _gathered(_compressed(_tar(source, entries, tally), make()))

        where = quote(staging)
        self.host.shell.run(
            f"unset TAR_OPTIONS; mkdir -p {where} && cd {where} && {unpack}",
            stdin=blocks,
            what="Unpacking the upload",
            repeat=False,
        )

    def _compression(self) -> tuple[str, type[_Zstd] | type[_Gzip] | type[_Plain]]:
        if self.host.has("zstd"):
            return "zstd -q", _Zstd
        if self.host.has("gzip"):
            return "gzip", _Gzip
        return "", _Plain


def _compresses(source: Source, entries: Iterable[Entry]) -> bool:
    """Whether compression is worth its time, by samples spread evenly over the bytes to send."""
    files = [entry for entry in entries if entry.kind == "file"]
    total = sum(entry.size for entry in files)
    if total < SAMPLED:
        return True
    samples, due, passed = bytearray(), 0, 0
    for entry in files:
        while due < passed + entry.size:
            samples += source.sample(entry, due - passed, SAMPLE)
            due += total // SAMPLES + 1
        passed += entry.size
    return len(zlib.compress(samples, 1)) < WORTH_IT * len(samples)


def _tar(source: Source, entries: Iterable[Entry], tally: Tally) -> Iterator[bytes]:
    files, sent, reported = -1, 0, 0
    for files, entry in enumerate(entries):
        yield _header(entry)
        if entry.kind == "file":
            for block in source.read(entry):
                sent += len(block)
                yield block
                if sent - reported >= SEND:  # not for each of many small files
                    reported = sent
                    tally(files, sent)
            yield b"\0" * (-entry.size % tarfile.BLOCKSIZE)
    tally(files + 1, sent)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _header(entry: Entry) -> bytes:
    name = entry.path.encode("utf-8", "surrogateescape")
    if entry.kind == "file" and len(name) <= tarfile.LENGTH_NAME and entry.size < 8**11:
        return _plain_header(name, entry)
    member = tarfile.TarInfo(entry.path)
    member.mode, member.mtime = entry.mode, entry.mtime
    if entry.kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, entry.content
    else:
        member.size = entry.size
    # GNU format: raw bytes in names, which GNU, BusyBox and BSD tar all read whatever the locale.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _plain_header(name: bytes, entry: Entry) -> bytes:
    """What tobuf() makes of a file with a short name, in a fraction of the time (tar(5), the header)."""
    fields = name.ljust(tarfile.LENGTH_NAME, b"\0") + b"%07o\0%s%011o\0%011o\0" % (
        entry.mode, _NO_OWNER, entry.size, entry.mtime,
    )  # fmt: skip
    return b"%s%06o\0 %s" % (fields, sum(fields) + _FIXED_SUM, _REST)


_NO_OWNER = b"0000000\0" * 2  # uid and gid
_REST = (tarfile.REGTYPE + bytes(100) + tarfile.GNU_MAGIC).ljust(356, b"\0")
_FIXED_SUM = sum(_REST) + sum(b" " * 8)  # the checksum's own field counts as blanks


def _compressed(blocks: Iterable[bytes], compressor: _Compressor) -> Iterator[bytes]:
    for block in blocks:
        yield compressor.compress(block)
    yield compressor.flush()


def _gathered(blocks: Iterable[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for block in blocks:
        waiting += block
        if len(waiting) >= SEND:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


class _Zstd:
    def __init__(self) -> None:
        import zstandard  # here, because most runs of fab need none of it

        self._object = zstandard.ZstdCompressor(level=3).compressobj()

    def compress(self, data: bytes, /) -> bytes:
        return bytes(self._object.compress(data))

    def flush(self) -> bytes:
        return bytes(self._object.flush())


class _Gzip:
    def __init__(self) -> None:
        self._object = zlib.compressobj(6, zlib.DEFLATED, 31)

    def compress(self, data: bytes, /) -> bytes:
        return self._object.compress(data)

    def flush(self) -> bytes:
        return self._object.flush()


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""
