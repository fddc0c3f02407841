"""The SFTP side: checks. Where a link points, whether it is a directory, what is in it.

`SftpFiles` asks over SFTP, `ShellFiles` the same questions over SSH. `Files` is what the rest of the
project uses: it starts with SFTP and, where `ssh.sftp` is `auto`, goes on over SSH when SFTP can't be
had, and says so.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from ..background import background
from ..errors import FilesError, LinkLost
from .checks import Final, PathInfo, Space, Stat, parse_space
from .connection import Connection
from .sftp_files import SftpFiles
from .shell import Shell
from .shell_files import ShellFiles

__all__ = ["Files", "PathInfo", "SftpFiles", "ShellFiles", "Space", "Stat", "parse_space"]

T = TypeVar("T")


class Files:
    """The checks as the project uses them, from whichever side answers.

    mode: auto | require | off, as in ssh.sftp. on_fallback is told why, once.
    """

    def __init__(
        self,
        connection: Connection,
        shell: Shell,
        mode: str,
        root: str | None,
        on_fallback: Callable[[str], None],
        on_reopen: Callable[[], None],
    ) -> None:
        self.mode = mode
        self.sftp = SftpFiles(connection, root, on_reopen)
        self.over_ssh = ShellFiles(shell)
        self.on_fallback = on_fallback
        self.side: SftpFiles | ShellFiles = self.over_ssh if mode == "off" else self.sftp
        self.pending: Future[str] | None = None

    def settle_by(self, pending: Future[str]) -> None:
        """Have each check wait for `pending`, which finds out which side it is to be, and says so."""
        self.pending = pending

    def settle(self) -> str:
        """Wait until it is known which side answers, as each check does; which it is. Raises FilesError."""
        return self.pending.result() if self.pending else ""

    @property
    def uses_sftp(self) -> bool:
        """Whether checks still come from the other protocol."""
        return self.side is self.sftp

    def fall_back(self, why: str) -> None:
        """Go on over SSH. Raises FilesError where ssh.sftp is `require`."""
        if self.mode == "require":
            raise FilesError(
                "SFTP can't be used, and ssh.sftp is `require`.",
                why,
                "Mend the server's SFTP, or set ssh.sftp: auto to let the checks go over SSH.",
            )
        if self.uses_sftp:
            self.side = self.over_ssh
            self.on_fallback(why)

    def warm(self) -> None:
        """Open the SFTP channel before it is needed; that it can't be had shows when it is."""
        if self.uses_sftp:
            with contextlib.suppress(LinkLost, FilesError):
                self.sftp.session()

    def lstat(self, path: str) -> Stat | None:
        """See Checks.lstat."""
        return self._either(lambda side: side.lstat(path))

    def readlink(self, path: str) -> str | None:
        """See Checks.readlink."""
        return self._either(lambda side: side.readlink(path))

    def look(self, paths: Sequence[str]) -> dict[str, PathInfo]:
        """See Checks.look."""
        return self._either(lambda side: side.look(paths))

    @contextlib.contextmanager
    def watching(
        self, paths: Sequence[str], final: Final
    ) -> Iterator[Callable[[], dict[str, PathInfo] | None]]:
        """While the shell is at work, look at `paths` over SFTP again and again: so what SFTP sees of it is
        here when the shell's own word is. Nothing else may ask over SFTP meanwhile.

        Gives what says, once the work is done, the first sight that was `final`; None where there was none.
        """
        done = threading.Event()
        watch = background(lambda: self._watch(paths, final, done))

        def sight() -> dict[str, PathInfo] | None:
            done.set()
            return watch.result()

        try:
            yield sight
        finally:
            done.set()
            watch.exception()

    def _watch(self, paths: Sequence[str], final: Final, done: threading.Event) -> dict[str, PathInfo] | None:
        with contextlib.suppress(FilesError):  # whoever looks next is told
            self.settle()
            return self.sftp.watch(paths, final, done) if self.uses_sftp else None
        return None

    def realpath(self, path: str) -> str | None:
        """See Checks.realpath."""
        return self._either(lambda side: side.realpath(path))

    def listing(self, path: str) -> list[str] | None:
        """See Checks.listing."""
        return self._either(lambda side: side.listing(path))

    def read(self, path: str) -> bytes | None:
        """See Checks.read."""
        return self._either(lambda side: side.read(path))

    def space(self, path: str) -> Space:
        """See Checks.space."""
        return self._either(lambda side: side.space(path))

    def close(self) -> None:
        """Let go of the SFTP channel."""
        self.sftp.close()

    def _either(self, ask: Callable[[SftpFiles | ShellFiles], T]) -> T:
        self.settle()
        side = self.side
        try:
            return ask(side)
        except FilesError as error:
            if side is self.over_ssh:
                raise
            self.fall_back(f"{error.what} {error.why}")
            return ask(self.side)
