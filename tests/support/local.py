"""A host without a server: scripts run in a sh on this machine, so what they do is tested in milliseconds."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fabfile.events import Event, Note
from fabfile.remote.files import ShellFiles
from fabfile.remote.host import Host
from fabfile.remote.request import FROM_STDIN, whole
from fabfile.remote.shell import Result, Script, Shell, failed
from fabfile.settings import Ssh

LIMIT = 30  # seconds for one script
# What runs the scripts; the fixture `each_shell` of tests/unit/conftest.py tries each of SHELLS.
SHELLS = {
    "dash": "dash",
    "bash": "bash --posix",
    "busybox": "busybox sh",
    "mksh": "mksh",
    "ksh93": "ksh93",
    "yash": "yash -o posixlycorrect",
    "zsh": "zsh --emulate sh",
}
shell = "/bin/sh"


class Wire:
    """Stands where the connection is: it never breaks. paused: the seconds that were to be waited."""

    def __init__(self, **rules: Any) -> None:
        self.rules = Ssh(**rules)
        self.address = self.original_host = "local"
        self.host, self.user, self.port = "local", "me", 22
        self.alive = True
        self.transport = None
        self.reconnects = 0
        self.interrupted = threading.Event()
        self.on_reconnect: Any = None
        self.paused: list[float] = []

    def persist(self, operation: Callable[[], Any], *, repeat: bool = True) -> Any:
        return operation()

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def stop_if_interrupted(self) -> None:
        """Nobody interrupts."""

    def still_alive(self) -> bool:
        return self.alive

    def close(self) -> None:
        """There is nothing to close."""


class LocalShell(Shell):
    """Runs scripts here. path: a folder for the head of their PATH; cut: how many bytes of their input
    arrive, where not all do; scripts: what was run.
    """

    def __init__(self, connection: Any, path: Path | None = None) -> None:
        super().__init__(connection)
        self.path = path
        self.cut: int | None = None
        self.scripts: list[str] = []

    def run(
        self,
        script: str,
        *,
        what: str = "A command on the host",
        stdin: Callable[[], Iterable[bytes]] | None = None,
        sink: Callable[[bytes], None] | None = None,
        timeout: float | None = None,
        check: bool = True,
        repeat: bool = True,
        **_: Any,
    ) -> Result:
        self.scripts.append(script)
        data = b"".join(stdin()) if stdin else b""
        if stdin is None and not self.fits(script):
            script, data = FROM_STDIN, whole(script)
        done = sh(f"LC_ALL=C; export LC_ALL\n{script}", data[: self.cut], self.path)
        result = Result(done.returncode, done.stdout, done.stderr)
        if sink and result.out:
            sink(result.out)
        if check and result.status != 0:
            raise failed(what, result)
        return result


def sh(script: str, data: bytes = b"", path: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a script of any length, by `shell`, which stands for /bin/sh too. path: a folder for the head of
    PATH.
    """
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    words = [*shell.split(), "-c", script.replace("/bin/sh", shell)]
    return subprocess.run(words, input=data, capture_output=True, env=environment, timeout=LIMIT)


def local_host(path: Path | None = None, **rules: Any) -> Host:
    """This machine as a Host that checks over the shell; `notes` has what a person would be told."""
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    wire: Any = Wire(**{"sftp": "off", **rules})
    host = Host("local", wire, listen)
    host.shell = LocalShell(wire, path)
    host.files.side = host.files.over_ssh = ShellFiles(host.shell)
    host.notes = notes  # type: ignore[attr-defined]
    return host


def nothing() -> Script:
    """A part of a batch that does nothing."""
    return Script("Nothing", ":")
