"""The same checks over SSH, where SFTP can't be had."""

from __future__ import annotations

import re
import secrets
import stat as modes
from collections.abc import Sequence

from ..errors import FilesError
from .answers import not_understood
from .checks import READ_LIMIT, PathInfo, Space, Stat, kind_of, parse_space
from .script_files import Scripts, quote
from .shell import Shell

_scripts = Scripts(__package__)


class ShellFiles:
    """The same checks over SSH, where SFTP can't be had."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def lstat(self, path: str) -> Stat | None:
        # stat -c knows %f (raw mode) and %s on GNU and BusyBox alike.
        said = self._ask(f"[ -e {quote(path)} ] || [ -L {quote(path)} ] && stat -c '%f %s' {quote(path)}")
        return _parsed(said)

    def look(self, paths: Sequence[str]) -> dict[str, PathInfo]:
        mark = secrets.token_hex(8)
        script = _scripts("look", *paths, mark=mark)
        said = (self._ask(script, strip=False) or "").split(mark)
        if len(said) != 2 * len(paths) + 1 or said[-1]:
            raise not_understood("What is at some paths", mark.join(said))
        return {
            path: PathInfo(_parsed(stat), link.removesuffix("\n") or None)
            for path, stat, link in zip(paths, said[::2], said[1::2], strict=False)
        }

    def readlink(self, path: str) -> str | None:
        return self._ask(f"[ -L {quote(path)} ] && readlink {quote(path)}")

    def realpath(self, path: str) -> str | None:
        name = quote(path)
        return self._ask(
            f"if [ -d {name} ]; then cd {name} && pwd -P; "
            f"elif [ -e {name} ]; then readlink -f {name}; else false; fi"
        )

    def listing(self, path: str) -> list[str] | None:
        mark = secrets.token_hex(8)
        said = self._ask(_scripts("list_names", directory=path, mark=mark))
        return None if said is None else sorted(said.removeprefix("\n").split(f"/{mark}")[:-1])

    def read(self, path: str) -> bytes | None:
        said = self._ask(f"[ -f {quote(path)} ] && head -c {READ_LIMIT} {quote(path)}", strip=False)
        return None if said is None else said.encode("utf-8", "surrogateescape")

    def space(self, path: str) -> Space:
        said = self._ask(f"df -Pk {quote(path)} && df -Pi {quote(path)} 2>/dev/null; :") or ""
        return parse_space(said)

    def _ask(self, script: str, strip: bool = True) -> str | None:
        """stdout, without the last newline; None where the script's condition did not hold."""
        result = self.shell.run(script, check=False)
        if result.status != 0:
            if (result.err + result.out).strip():  # where a host joins them, an error stands among the answer
                raise FilesError("A check over SSH failed.", result.last_lines())
            return None
        text = result.text
        return text.removesuffix("\n") if strip else text


def _parsed(said: str | None) -> Stat | None:
    """What `stat -c '%f %s'` says."""
    if not said:
        return None
    found = re.fullmatch(r"([0-9a-f]{1,8}) ([0-9]{1,18})\n?", said)
    if found is None:
        raise not_understood("The answer of stat", said)
    return Stat(kind_of(int(found[1], 16)), modes.S_IMODE(int(found[1], 16)), int(found[2]))
