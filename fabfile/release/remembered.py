"""What this machine remembers from one deployment to the next: nothing that could not be found out again.

Under ~/.cache/switchover (XDG_CACHE_HOME), for this user only: manifests by the sha256 of their text, so that
one the host keeps need not travel; and for each source folder its files' sha256 beside what lstat said.
A damaged or missing file costs time, never correctness.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import zlib
from pathlib import Path

ROOM = 200 << 20  # bytes kept; what was used longest ago goes first


def manifest(digest: str) -> bytes | None:
    """The manifest whose text has this sha256, if it is remembered."""
    data = _read(_folder() / f"{digest}.manifest")
    return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None


def keep_manifest(text: bytes) -> str:
    """Remember a manifest; the sha256 of its text."""
    digest = hashlib.sha256(text).hexdigest()
    _write(_folder() / f"{digest}.manifest", text)
    return digest


def digests(root: Path) -> dict[str, str]:
    """By path below `root`: what lstat said of a file, a tab, and its sha256 at that time."""
    data = (_read(_of_source(root)) or b"").decode("utf-8", "surrogateescape")
    rows = (row.partition("\0") for row in data.split("\0\0") if row)
    return {path: told for path, _, told in rows}


def keep_digests(root: Path, found: dict[str, str]) -> None:
    """Remember these for the next scan."""
    rows = (f"{path}\0{told}" for path, told in found.items())
    _write(_of_source(root), "\0\0".join(rows).encode("utf-8", "surrogateescape"))


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


def _write(path: Path, data: bytes) -> None:
    """In a thread: packing takes as long as a round trip. The process does not end before it is done."""
    threading.Thread(target=_pack, args=(path, data), name="remember").start()


def _pack(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(f".{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.write_bytes(zlib.compress(data, 1))
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
