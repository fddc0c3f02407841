"""OpenSSH 10 from Debian trixie, in a root of its own, with the penalties that it comes with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.sshd import Sshd

ROOT = Path(os.environ.get("SWITCHOVER_TRIXIE", "/var/cache/switchover-trixie"))
MADE_WITHIN = 600  # seconds


def missing() -> str:
    """Why it can't be started here, or ""."""
    if os.geteuid() != 0:
        return "root"
    return "" if (ROOT / "usr/sbin/sshd").exists() else f"a Debian trixie at {ROOT} (`inv lab` makes one)"


def make_root() -> None:
    """Install trixie with its sshd into ROOT, unless it is there; needs root and debootstrap."""
    if os.geteuid() == 0 and shutil.which("debootstrap") and missing():
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=openssh-server", "trixie", str(ROOT)],
            check=True, capture_output=True, timeout=MADE_WITHIN,
        )  # fmt: skip


class Sshd10(Sshd):
    """The server; files and accounts are those of this machine."""

    def __init__(self, *, extra: str = "") -> None:
        super().__init__(extra=f"PerSourcePenalties yes\n{extra}")
        (ROOT / "run/sshd").mkdir(parents=True, exist_ok=True)
        shared = ("/tmp", "/home", "/proc", "/dev", "/etc/passwd", "/etc/shadow", "/etc/group")
        binds = " && ".join(f"mount --rbind {path} {ROOT}{path}" for path in shared)
        wrapper = self.folder / "sshd"
        wrapper.write_text(
            "#!/bin/sh\n"
            "exec unshare -m --propagation private sh -c "
            f"""'{binds} && exec chroot {ROOT} /usr/sbin/sshd "$@"' sh "$@"\n"""
        )
        wrapper.chmod(0o755)
        self._binary = wrapper

    def _answers(self, logged: int) -> bool:
        """A look at its log is enough: a connection without a login has its penalty."""
        return f"Server listening on {self.host} port {self.port}" in self.log()[logged:]
