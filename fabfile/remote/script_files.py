"""The scripts that run on hosts: files `*.sh`, in the folder `scripts/` of each package.

A script's first lines say what goes in, what comes out, and how it ends. Values are passed and never written
into its text: as the positional parameters, and as variables, which it declares in lines of the form
`: "${name?}"`. A line `. ./other.sh` stands for the text of that file, once.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from functools import cache
from importlib.resources import files

_ROOT = __package__.rpartition(".")[0]
_DECLARED = re.compile(r'^: ((?:"\$\{[a-z_]+\?\}" ?)+)$', re.M)
_INCLUDED = re.compile(r"^\. (\S+\.sh)$", re.M)
# What only a reader needs; it would travel with each deployment. (No here-documents: a test looks.)
_FOR_READERS = re.compile(r"^(?:[ \t]*#.*\n|[ \t]*\n|[ \t]+)", re.M)


def quote(text: str) -> str:
    """Quote for sh. The only place where a path or any other value enters a command."""
    if "\0" in text:
        raise ValueError("a NUL can't enter a command")
    return shlex.quote(text)


class Scripts:
    """The scripts of one package; `package` is its `__package__`."""

    def __init__(self, package: str) -> None:
        self.folder = f"{package[len(_ROOT) + 1 :].replace('.', '/')}/scripts"

    def __call__(self, name: str, /, *words: str, **variables: str | int) -> str:
        """The script `name`.sh with `words` as its positional parameters, and these variables.

        Raises TypeError where these are not the ones that it declares.
        """
        text, declared = _read(f"{self.folder}/{name}.sh")
        if variables.keys() != declared:
            raise TypeError(f"{name}.sh takes {sorted(declared)}, not {sorted(variables)}")
        given = " ".join(f"{key}={quote(str(value))}" for key, value in variables.items())
        return "\n".join(filter(None, [" ".join(["set --", *map(quote, words)]), given, text]))

    def functions(self, name: str) -> str:
        """The text of `name`.sh, which only defines functions, or is called with parameters by a shell."""
        text, declared = _read(f"{self.folder}/{name}.sh")
        if declared:
            raise TypeError(f"{name}.sh takes {sorted(declared)}")
        return text


@cache
def _read(path: str) -> tuple[str, frozenset[str]]:
    """A script as it travels, and the variables that it takes. path: below the package itself."""
    met: set[str] = set()

    def whole(path: str) -> str:
        if path in met:
            return ""
        met.add(path)
        text = files(_ROOT).joinpath(path).read_text("utf-8")
        return _INCLUDED.sub(lambda found: whole(posixpath.normpath(f"{path}/../{found[1]}")), text)

    text = whole(path)
    declared = frozenset(re.findall(r"\w+", "".join(_DECLARED.findall(text))))
    return _FOR_READERS.sub("", _DECLARED.sub("", text)).rstrip("\n"), declared
