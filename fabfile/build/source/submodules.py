"""Where the content of git submodules is: on this machine, else at the address that .gitmodules gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import SourceError
from . import repository
from .repository import Repository


def find(
    source: Repository,
    known: tuple[str, str] | None,
    path: str,
    commit: str,
    new_folder: Callable[[], Path],
) -> Repository:
    """A repository that has the commit of the submodule at `path` of `source`. Raises SourceError.

    known: its name and URL, see named(). new_folder: gives a place for a repository.
    """
    if known is None:
        raise SourceError("It has no address.", ".gitmodules does not name it")
    name, url = known
    for nearby in _nearby(source, name, path):
        module = repository.borrow(nearby, new_folder())
        if _has(module, commit):
            return module
    if not url:
        raise SourceError("It has no address.", ".gitmodules gives none")
    module = repository.fetch(_address(url, source), commit, new_folder(), trusted=False, like=source)
    if not _has(module, commit):
        raise SourceError("Its commit is not there.", f"{module.address} has no {commit}")
    return module


def named(source: Repository, commit: str) -> dict[str, tuple[str, str]]:
    """Name and URL of each submodule by its path, as .gitmodules says."""
    try:
        said = source.git("config", "--blob", f"{commit}:.gitmodules", "--no-includes", "--null", "--list")
    except repository.GitFailed:
        return {}
    values: dict[str, dict[str, str]] = {}
    for record in os.fsdecode(said).split("\0")[:-1]:
        key, _, value = record.partition("\n")
        section, _, rest = key.partition(".")
        name, _, what = rest.rpartition(".")
        if section == "submodule":
            values.setdefault(name, {})[what] = value
    return {
        value["path"]: (name, value.get("url", ""))
        for name, value in values.items()
        if "path" in value and not {"", ".", ".."} & set(name.split("/"))
    }


def _nearby(source: Repository, name: str, path: str) -> Iterator[repository.Local]:
    """Repositories on this machine that may have a submodule's commit; which it is, its id proves."""
    if source.local is None:
        return
    folders = [git_dir / "modules" / name for git_dir in dict.fromkeys(source.local.git_dirs)]
    if (root := source.local.root) is not None:
        folders.append(root / path)  # as old versions of git have it
    for folder in folders:
        if (folder / "objects").is_dir() or (folder / ".git").exists():
            try:
                yield repository.find(folder)
            except SourceError:
                continue


def _has(module: Repository, commit: str) -> bool:
    try:
        module.git("cat-file", "-e", f"{commit}^{{commit}}")
    except repository.GitFailed:
        return False
    return True


def _address(url: str, source: Repository) -> str:
    """A URL of .gitmodules; ./ and ../ are relative to the repository's own URL (gitmodules(5))."""
    if not url.startswith(("./", "../")):
        return url
    base = source.address
    if source.local is not None:
        own = os.fsdecode(source.local.configured("--get", "remote.origin.url")).rstrip("\n")
        base = own or base
    base = base.rstrip("/")
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            cut = max(base.rfind("/"), base.rfind(":"))
            if cut < 1:
                raise SourceError("Its address leads above its repository's.", url)
            base = base[:cut]
        url = url.partition("/")[2]
    return f"{base}/{url}"
