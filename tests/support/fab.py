"""`fab` run as a person runs it, and what it leaves: exit code, text, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import schemas

REPOSITORY = Path(__file__).resolve().parents[2]
FAB = Path(sys.executable).parent / "fab"
TIMEOUT = 60.0  # seconds for one fab; on loopback it needs two
RELEASE_ID = re.compile(r"\d{14}(-[1-9]\d*)?")
TRACEBACK = "Traceback (most recent call last)"

HOST_KEYS = {
    "host", "ok", "release", "previous", "live", "strategy", "transfer", "copy", "files_uploaded",
    "files_deleted", "bytes_uploaded", "reconnects", "phases", "failed_in", "error",
    "seeds", "unserved",
}  # fmt: skip
ERROR_KEYS = {"what", "why", "try", "step", "reason", "status", "output", "commands"}


@dataclass(frozen=True)
class Done:
    """What a fab left. No traceback is in it: that is looked at before anybody gets one."""

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON document that stdout is, as docs/json.md says it."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        schemas.check(self.args, found)
        return found

    @property
    def host(self) -> dict[str, Any]:
        """The only entry of the JSON's `hosts`."""
        (entry,) = self.json["hosts"]
        assert isinstance(entry, dict)
        return entry

    def says(self, *words: str) -> None:
        """Each of these is in the error that a person reads (stderr), or in the report before it."""
        told = self.stdout + self.stderr
        missing = [word for word in words if word not in told]
        assert not missing, f"{missing} is not in:\n{self}"

    def __str__(self) -> str:
        return f"fab {' '.join(self.args)} -> {self.code}\n{self.stdout}\n--- stderr\n{self.stderr}"


class Running:
    """A fab that has been started; finish() waits for it, bounded."""

    def __init__(
        self, args: Sequence[str], cwd: Path, environment: dict[str, str], folder: Path | None = None
    ) -> None:
        self.args = tuple(args)
        self.process = subprocess.Popen(
            [str(FAB), "-r", str(REPOSITORY), *args],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, code: int | None = 0, timeout: float = TIMEOUT) -> Done:
        """Wait for its end; asserts its exit code (unless None) and that there is no traceback."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate(timeout=5)
            raise AssertionError(
                f"fab {' '.join(self.args)} did not end in {timeout:g} s:\n{out!r}\n{err!r}"
            ) from None
        done = Done(
            self.args, self.process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )
        assert TRACEBACK not in done.stdout + done.stderr, str(done)
        assert "Switchover itself made a mistake" not in done.stdout + done.stderr, str(done)
        assert code is None or done.code == code, f"expected exit code {code}: {done}"
        return done

    def kill(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.communicate(timeout=5)
