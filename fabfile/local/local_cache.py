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
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOM = 200 << 20  # bytes kept; what was used longest ago goes first


def manifest(digest: str) -> bytes | None:
    """The manifest whose text has this sha256, if it is remembered."""
    data = _read(cache_folder() / f"{digest}.manifest")
    return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None


def keep_manifest(text: bytes) -> str:
    """Remember a manifest; the sha256 of its text."""
    digest = hashlib.sha256(text).hexdigest()
    _write(cache_folder() / f"{digest}.manifest", [text])
    return digest


def digests(root: Path) -> dict[str, str]:
    """The sha256 of files below `root`, by path, NUL and what lstat said of it at that time."""
    proof, _, data = (_read(_of_source(root)) or b"").partition(b"\n")
    if proof.decode("ascii", "replace") != hashlib.sha256(data).hexdigest():
        return {}
    return {row[64:]: row[:64] for row in data.decode("utf-8", "surrogateescape").split("\n")}


def keep_digests(root: Path, found: dict[str, str]) -> None:
    """Remember these for the next scan; names with a newline are read again each time."""
    _write(_of_source(root), _proven(found))


def _proven(found: dict[str, str]) -> Iterator[bytes]:
    rows = "\n".join([f"{digest}{file}" for file, digest in found.items() if "\n" not in file])
    data = rows.encode("utf-8", "surrogateescape")
    yield hashlib.sha256(data).hexdigest().encode() + b"\n"
    yield data


def cache_folder() -> Path:
    """~/.cache/switchover (XDG_CACHE_HOME). Raises RuntimeError where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "switchover"


def _of_source(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    return cache_folder() / f"{name}.source"


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    return data


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    """In a thread; the process does not end before it is done."""
    threading.Thread(target=_keep, args=(path, blocks), name="remember").start()


def _keep(path: Path, blocks: Iterable[bytes]) -> None:
    fresh = path.with_suffix(f".{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with fresh.open("wb") as file:
            file.writelines(blocks)
        fresh.replace(path)
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    """Another process may do the same; whoever fails leaves the rest for the next time."""
    newest = sorted(
        ((p.stat().st_mtime, p.stat().st_size, p) for p in folder.iterdir() if p.is_file()), reverse=True
    )
    total = 0
    for _, size, path in newest:
        total += size
        if total > ROOM:
            path.unlink(missing_ok=True)
