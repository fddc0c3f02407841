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


def digests(root: Path) -> dict[str, tuple[str, str]]:
    """By path below `root`: what lstat said of a file (see Stamp), and its sha256 at that time."""
    data = _read(_of_source(root)) or b""
    rows = (row.split("\t", 2) for row in data.decode("utf-8", "surrogateescape").split("\0") if row)
    return {path: (stamp, digest) for stamp, digest, path in rows}


def keep_digests(root: Path, found: dict[str, tuple[str, str]]) -> None:
    """Remember these for the next scan."""
    rows = (f"{stamp}\t{digest}\t{path}" for path, (stamp, digest) in found.items())
    _write(_of_source(root), "\0".join(rows).encode("utf-8", "surrogateescape"))


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
    fresh = path.with_suffix(f".{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.write_bytes(zlib.compress(data, 1))
        fresh.replace(path)
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    newest = sorted(((p.stat().st_mtime, p) for p in folder.iterdir()), reverse=True)
    total = 0
    for _, path in newest:
        total += path.stat().st_size
        if total > ROOM:
            path.unlink(missing_ok=True)
