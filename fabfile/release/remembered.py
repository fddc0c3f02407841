"""What this machine remembers from one deployment to the next: nothing that could not be found out again.

Under ~/.cache/switchover (XDG_CACHE_HOME), for this user only: manifests by the sha256 of their text, so that
one the host keeps need not travel; and for each source folder its files' sha256 beside what lstat said.
A damaged or missing file costs time, never correctness.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

ROOM = 200 << 20  # bytes kept; what was used longest ago goes first


def manifest(digest: str) -> bytes | None:
    """The manifest whose text has this sha256, if it is remembered."""
    data = _read(_folder() / f"{digest}.manifest")
    return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None


def keep_manifest(text: bytes) -> str:
    """Remember a manifest; the sha256 of its text."""
    digest = hashlib.sha256(text).hexdigest()
    _write(_folder() / f"{digest}.manifest", [text])
    return digest


def digests(root: Path) -> dict[str, str]:
    """By path below `root`: what lstat said of a file, a tab, and its sha256 at that time."""
    found = {}
    for raw in io.BytesIO(_read(_of_source(root)) or b""):
        path, _, told = raw.decode("utf-8", "surrogateescape").rstrip("\n").partition("\0")
        found[path] = told
    return found


def keep_digests(root: Path, found: dict[str, str]) -> None:
    """Remember these for the next scan; names with a newline are read again each time."""
    rows = (f"{path}\0{told}\n" for path, told in found.items() if "\n" not in path)
    _write(_of_source(root), (row.encode("utf-8", "surrogateescape") for row in rows))


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "switchover"


def _of_source(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    return _folder() / f"{name}.source"


def _read(path: Path) -> bytes | None:
    try:
        data = zlib.decompress(path.read_bytes())
        os.utime(path)
    except (OSError, zlib.error):
        return None
    return data


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    """In a thread: packing takes as long as a round trip. The process does not end before it is done."""
    threading.Thread(target=_pack, args=(path, blocks), name="remember").start()


def _pack(path: Path, blocks: Iterable[bytes]) -> None:
    fresh = path.with_suffix(f".{secrets.token_hex(4)}")
    packer = zlib.compressobj(1)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with fresh.open("wb") as file:
            for block in blocks:
                file.write(packer.compress(block))
            file.write(packer.flush())
        fresh.replace(path)
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    """Another process may do the same; whoever fails leaves the rest for the next time."""
    newest = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in folder.iterdir()), reverse=True)
    total = 0
    for _, size, path in newest:
        total += size
        if total > ROOM:
            path.unlink(missing_ok=True)
