"""A tree beside deploy_to that must stay as it is, byte for byte, mode for mode, time for time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.support.sshd import Sshd

# The names that sources have, too: whoever is led here finds what to overwrite and what to remove.
FILES = (
    "a",
    "b",
    "x y",
    "-rf",
    "d/a",
    "d/b",
    "d/in/a",
    "d/in/b",
    "in/a",
    "in/d/b",
    "up/a",
    ".env",
    "REVISION",
)
MODES = (0o644, 0o600, 0o640, 0o755, 0o400)


def plant(folder: Path, server: Sshd) -> Path:
    """The tree, the login account's own: it could be written to."""
    for number, name in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"canary {name}")
        path.chmod(MODES[number % len(MODES)])
    (folder / "empty").mkdir()
    (folder / "in").chmod(0o700)
    (folder / "d/in").chmod(0o500)
    (folder / "link").symlink_to("a")
    for path in (folder, *folder.rglob("*")):
        server.give(path)
    return folder


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that a write, a removal or a chmod would change, by path."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        info = path.lstat()
        found[str(path.relative_to(folder))] = (
            oct(info.st_mode), info.st_uid, info.st_gid, info.st_ino, info.st_mtime_ns,
            os.readlink(path) if path.is_symlink() else "",  # noqa: PTH115
            path.read_bytes() if stat.S_ISREG(info.st_mode) else b"",
        )  # fmt: skip
    return found


def harm(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> list[str]:
    """What became of it, one line a path."""
    lines = [f"{path} is gone" for path in before.keys() - after.keys()]
    lines += [f"{path} has come" for path in after.keys() - before.keys()]
    lines += [
        f"{path}: {before[path]} became {after[path]}"
        for path in before.keys() & after.keys()
        if before[path] != after[path]
    ]
    return sorted(lines)
