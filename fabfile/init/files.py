"""What `init` writes: files that were not there, all or none; and what goes with a config.yaml."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from ..errors import ConfigError
from ..settings import load

FABFILE = Path("fabfile.py")
CI = {"github": Path(".github/workflows/deploy.yml"), "gitlab": Path(".gitlab-ci.yml")}


def refuse_existing(paths: list[Path]) -> None:
    """Raises ConfigError where one of them is there already, whatever it is."""
    there = [str(path) for path in paths if path.is_symlink() or path.exists()]
    if there:
        raise ConfigError(
            "Nothing was written: files are never replaced.",
            f"already there: {', '.join(there)}",
            "Move it away, or name another place: --config FILE.",
        )


def check(text: str) -> None:
    """Raises ConfigError where our own loader would refuse the text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_text(text, "utf-8")
        load(file)


def write(texts: Mapping[Path, str]) -> None:
    """Write these files. Raises ConfigError, and then none of them is left."""
    written: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        why = f"{error.filename or path}: {error.strerror or error}"
        raise ConfigError("Nothing was written.", why, "Make the folder writable.") from error


def template(name: str) -> str:
    """The text of fabfile, github or gitlab."""
    return (files(__package__) / "templates" / f"{name}.txt").read_text("utf-8")
