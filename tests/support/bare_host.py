"""A host that has exactly these programs: in a mount namespace of its own /usr/bin holds nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support.programs import script
from tests.support.sshd import Sshd

REAL = "real"  # where /usr/bin of this machine is seen from there


class BareHost(Sshd):
    """An Sshd with all of its programs in `programs`: name -> program of this machine's /usr/bin, or the text
    of a script. Needs root, and a machine where /bin is a link to /usr/bin.
    """

    def __init__(self, programs: Mapping[str, str], *, extra: str = "", user: str | None = None) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="switchover-bare-"))
        super().__init__(extra=f"SetEnv PATH=/usr/bin\n{extra}", user=user)
        self._place.chmod(0o755)
        own, none, real = (self._place / name for name in ("bin", "none", REAL))
        for folder in (own, none, real):
            folder.mkdir(mode=0o755)
        for name, program in programs.items():
            if program.startswith("#!"):
                script(own, name, program)
            else:
                (own / name).symlink_to(real / program)
        mount = "/usr/bin/mount --bind"
        script(
            self.folder,
            "sshd",
            f"""#!/bin/sh
exec unshare -m --propagation private sh -c '{mount} /usr/bin {real} && {mount} {none} /usr/local/bin &&
{real}/mount --bind {own} /usr/bin && exec {self._binary} "$@"' sh "$@"
""",
        )
        self._binary = self.folder / "sshd"

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        shutil.rmtree(self._place, ignore_errors=True)


def all_but(*missing: str) -> dict[str, str]:
    """Every program of this machine but these."""
    return {name: name for name in os.listdir("/usr/bin") if name not in missing}  # noqa: PTH208


def boxed(box: str, sh: str) -> dict[str, str]:
    """The programs of BusyBox or toybox, and nothing else but /bin/sh and the account's login shell."""
    said = subprocess.run([box, *(["--list"] if box == "busybox" else [])], capture_output=True, text=True)
    return {**dict.fromkeys(said.stdout.split(), box), "sh": sh, "bash": "bash"}
