"""What .gitattributes ask for: the content of Git LFS, other filters, and `export-subst`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from ...errors import SourceError
from . import repository
from .repository import Repository

SHOWN = 10  # paths named in a message


def prepare(source: Repository, commit: str, attributes: Sequence[str]) -> None:
    """Make what .gitattributes ask for work as in a checkout. attributes: the ids of these files.

    Raises SourceError where a filter would be needed that is not run.
    """
    (source.folder / "HEAD").write_text(f"{commit}\n")
    if not attributes and not (source.folder / "info/attributes").exists():
        return
    texts = source.git("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in attributes).encode())
    if b"export-subst" in texts:
        repository.take_refs(source)
        repository.fetch_all(source)
    if shutil.which("git-lfs"):
        # What it can't get stays a pointer; the scan names those.
        source.configure(
            '[filter "lfs"]\n\tprocess = git-lfs filter-process\n\tsmudge = git-lfs smudge -- %f\n'
            "\tclean = git-lfs clean -- %f\n\trequired = false\n"
        )
        if source.local is not None:
            source.configure(_lfs_of(source.local))
    if source.local is not None:
        _refuse_local_filters(source, source.local, commit)


def _lfs_of(local: repository.Local) -> str:
    """Where git-lfs finds content: what the local repository has, else its remote."""
    text = f"[lfs]\n\tstorage = {repository.quoted(str(local.git_dirs[-1] / 'lfs'))}\n"
    if url := os.fsdecode(local.configured("--get", "remote.origin.url")).rstrip("\n"):
        text += f'[remote "origin"]\n\turl = {repository.quoted(url)}\n'
    return text


def _refuse_local_filters(source: Repository, local: repository.Local, commit: str) -> None:
    """Raise SourceError where content would need a filter that only the repository's own configuration has:
    it is a program that this configuration names, and without it the content would be another.
    """
    said = os.fsdecode(
        local.configured("--local", "--null", "--get-regexp", r"^filter\..*\.(smudge|process)$")
    )
    own = {
        key.split(".", 1)[1].rpartition(".")[0]
        for key, _, command in (record.partition("\n") for record in said.split("\0")[:-1])
        if command.strip() not in ("", "cat")
    } - {"lfs"}
    own = {name for name in own if not _known(source, name)}
    if not own:
        return
    index = {"GIT_INDEX_FILE": str(source.folder / "index")}
    source.git("read-tree", commit, more=index)
    paths = source.git("ls-files", "-z", more=index)
    found = os.fsdecode(
        source.git("check-attr", "--cached", "-z", "--stdin", "filter", stdin=paths, more=index)
    )
    fields = found.split("\0")
    hit = [(path, name) for path, name in zip(fields[0::3], fields[2::3], strict=False) if name in own]
    if hit:
        raise SourceError(
            "Files need a filter that is set in the repository's own configuration, which is not run.",
            "\n".join(f"{path!r} has filter={name}" for path, name in hit[:SHOWN]),
            f"Set it in your own: `git config --global filter.{hit[0][1]}.smudge …`; or deploy a checkout "
            "(source.path).",
        )


def _known(source: Repository, name: str) -> bool:
    for what in ("smudge", "process"):
        try:
            source.git("config", "--get", f"filter.{name}.{what}")
            return True
        except repository.GitFailed:
            continue
    return False
