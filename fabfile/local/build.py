"""The local build: commands that run here before anything is contacted."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import CommandTimedOut, LocalHookFailed, classify
from .processes import running

LINE = 8192  # bytes of one line; a longer one is told in pieces
KEPT = 20  # lines of a failed command that its error shows
BLOCK = 1 << 16  # bytes

# The command comes by the environment: argument lists can be read by every account.
_SHELL = ["/bin/sh", "-c", 'set -- "$SWITCHOVER_LOCAL"; unset SWITCHOVER_LOCAL; eval "shift; $1"']

Tell = Callable[[str], None]


def build(commands: Sequence[str], folder: Path, timeout: float, tell: Tell) -> None:
    """Run commands in `folder`, one after the other, and tell each line as it comes.

    A command has ended when its shell has, whatever it has left in the background. timeout: seconds for each
    command. Raises LocalHookFailed; then, as after an interruption, all that it has started is ended.
    """
    for number, command in enumerate(commands, 1):
        last: deque[str] = deque(maxlen=KEPT)
        name = f"`{command}` (local_build, {number} of {len(commands)})"

        def keep(line: str, last: deque[str] = last) -> None:
            last.append(line)
            tell(line)

        try:
            status = _run(command, folder, timeout, keep)
        except TimeoutError as error:
            raise LocalHookFailed(
                f"The local build {name} did not end.",
                f"no end after {timeout:g} s",
                "Raise ssh.command_timeout.",
                reason=CommandTimedOut.reason,
                output="\n".join(last),
            ) from error
        except OSError as error:
            raise LocalHookFailed(f"The local build {name} can't be started.", str(error)) from error
        if status:
            said = "\n".join(last)
            raise LocalHookFailed(
                f"The local build {name} failed.",
                f"exit status {status}: {said}",
                "Nothing was contacted. Run it by hand in the folder of the configuration file.",
                reason=classify(said),
                status=status,
                output=said,
            )


def _run(command: str, folder: Path, timeout: float, tell: Tell) -> int:
    """The exit status. Raises TimeoutError."""
    environment = {**os.environ, "SWITCHOVER_LOCAL": command}
    deadline = time.monotonic() + timeout
    ended, wake = os.pipe()
    lines = _Lines(tell)
    with running(
        _SHELL, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        threading.Thread(target=_watch, args=(process, wake), daemon=True).start()
        output = process.stdout.fileno()
        os.set_blocking(output, False)
        try:
            waiting = [output, ended]
            while ended in waiting:
                ready, _, _ = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                if output in ready and not lines.read(output):
                    waiting.remove(output)  # it has closed its output, and goes on
                if ended in ready:
                    waiting.remove(ended)
            for _ in range(1 << 12):  # what is in the pipe; a background process may write for ever
                if not lines.read(output):
                    break
            lines.end()
        finally:
            os.close(ended)
            process.stdout.close()
        return process.wait()


def _watch(process: subprocess.Popen[bytes], wake: int) -> None:
    process.wait()
    os.close(wake)


class _Lines:
    """Cuts output into lines of bounded length."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.rest = b""

    def read(self, handle: int) -> bool:
        """Read what is there; False where nothing is, or will be."""
        try:
            block = os.read(handle, BLOCK)
        except BlockingIOError:
            return False
        *whole, self.rest = (self.rest + block).split(b"\n")
        for line in whole:
            self._tell(line)
        while len(self.rest) > LINE:
            self._tell(self.rest[:LINE])
            self.rest = self.rest[LINE:]
        return bool(block)

    def end(self) -> None:
        """What is left has no newline."""
        if self.rest:
            self._tell(self.rest)

    def _tell(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, LINE):
            text = line[start : start + LINE].decode("utf-8", "replace").rstrip("\r")
            self.tell(text.rpartition("\r")[2])  # of a progress bar what a terminal would show
