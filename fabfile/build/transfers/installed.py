"""Whether what `transfer: rsync` runs through is installed: pip does not bring it along."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec

from ...errors import ConfigError


def check_installed(wanted: str) -> None:
    """Raises ConfigError where a transfer was asked for that an installation by pip does not bring along."""
    if wanted == "rsync" and (missing := not_installed()):
        raise ConfigError(
            "transfer: rsync needs what is not installed here.",
            f"there is no {' and no '.join(missing)} for {sys.executable}",
            f"Type this, or set transfer: stream, which needs neither:\n{_install_line()}",
        )


def not_installed() -> list[str]:
    """What of the extra `rsync` is missing. patchwork is looked for, not imported: that takes a `six`."""
    return [name for name in ("patchwork", "six") if find_spec(name) is None]


def _install_line() -> str:
    """What installs the extra into this Python: without a resolver, for patchwork says fabric<3."""
    pip = [sys.executable, "-m", "pip", "install"]
    uv = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*(pip if find_spec("pip") else uv), "--no-deps", "patchwork>=1.0.1,<2", "six>=1.16"])
