"""What the last failed command saw, kept here for `fab diagnose`: one file a host, without secrets."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import SwitchoverError

# What errors know beside their sentences: how far a connection came and what ended it, a command's status.
_FIELDS = ("stage", "cause", "status", "reason", "problem")


def write(address: str, phase: str, error: SwitchoverError, **seen: object) -> None:
    """Keep what went wrong with the host at `address` ([user@]host[:port]). A disk that won't take it is no
    failure: the error is told anyway.
    """
    from ..redaction import document

    record = {
        "host": address,
        "phase": phase,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": type(error).__name__,
        "what": error.what,
        "why": error.why,
        **{name: value for name in _FIELDS if (value := getattr(error, name, None)) not in (None, "", ())},
        **seen,
    }
    with contextlib.suppress(OSError):
        path = _path(address)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(document(record), indent=1))
        fresh.chmod(0o600)
        fresh.replace(path)


def read(address: str) -> Mapping[str, Any] | None:
    """What was kept about the host, if anything was."""
    try:
        found = json.loads(_path(address).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("phase"), str) else None


def forget(address: str) -> None:
    """It works again."""
    with contextlib.suppress(OSError):
        _path(address).unlink(missing_ok=True)


@contextlib.contextmanager
def kept(addresses: Iterable[str]) -> Iterator[None]:
    """Whatever is done meanwhile: these hosts' records stay as they are."""
    before = {address: (path.read_bytes() if path.is_file() else None)
              for address in addresses if (path := _path(address))}  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for address, record in before.items():
                if record is None:
                    forget(address)
                else:
                    _path(address).write_bytes(record)


def _path(address: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    name = urllib.parse.quote(address, safe="@:")
    return Path(state).expanduser() / "switchover" / "incidents" / f"{name}.json"
