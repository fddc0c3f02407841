"""Proofs by digests, by the scripts alone: where they can't be trusted, nothing rests on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabfile.build import proof
from fabfile.remote.script_files import Scripts
from tests.support.local import sh
from tests.support.programs import program

pytestmark = pytest.mark.usefixtures("each_shell")


def seals(folder: Path, path: Path | None = None) -> bool:
    """Whether a change of a file in `folder` would be seen by its inode change time."""
    return sh(f"{Scripts('fabfile.build').functions('seals')}\nseals {folder}", path=path).returncode == 0


def test_this_machines_file_system_keeps_change_times(tmp_path: Path) -> None:
    assert seals(tmp_path)
    assert list(tmp_path.iterdir()) == [], "the probe is removed"


@pytest.mark.parametrize("says", ["1700000000.0000000000", "1700000000.1234567890"])
def test_a_file_system_whose_change_times_do_not_change(tmp_path: Path, says: str) -> None:
    """As exFAT, some FUSE file systems and NFS servers: two writes have one time."""
    frozen = program(tmp_path / "bin", "find", f'case "$*" in *%C@*) printf %s {says}; exit 0 ;; esac')
    folder = tmp_path / "site"
    folder.mkdir()
    assert not seals(folder, frozen)
    assert list(folder.iterdir()) == []


def test_a_file_system_that_counts_in_whole_seconds(tmp_path: Path) -> None:
    """As ext3: two writes within one second look like one."""
    ticks = tmp_path / "ticks"
    ticks.write_text("1700000000")
    count = f"read n < {ticks}; echo $((n + 1)) > {ticks}; printf %s.0000000000 $n; exit 0"
    coarse = program(tmp_path / "bin", "find", f'case "$*" in *%C@*) {count} ;; esac')
    folder = tmp_path / "site"
    folder.mkdir()
    assert not seals(folder, coarse)


@pytest.mark.parametrize("how", ["content", "mode", "time", "renamed", "added", "removed", "link"])
def test_a_seal_is_broken_by_any_change(tmp_path: Path, how: str) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/a").write_text("a\n")
    (tree / "l").symlink_to("d/a")
    before = sh(proof.seal(str(tree))).stdout
    assert before == sh(proof.seal(str(tree))).stdout
    info = (tree / "d/a").stat()
    if how == "content":
        (tree / "d/a").write_text("b\n")
        os.utime(tree / "d/a", ns=(info.st_atime_ns, info.st_mtime_ns))
    elif how == "mode":
        (tree / "d/a").chmod(0o600)
    elif how == "time":
        os.utime(tree / "d/a", (1, 1))
    elif how == "renamed":
        (tree / "d/a").rename(tree / "d/b")
    elif how == "added":
        (tree / "new").touch()
    elif how == "removed":
        (tree / "d/a").unlink()
    else:
        (tree / "l").unlink()
        (tree / "l").symlink_to("d")
    assert sh(proof.seal(str(tree))).stdout != before


@pytest.mark.promise("answers")
def test_what_is_no_digest_is_none() -> None:
    """It would be written into the record, which nobody could read then."""
    digest = "ab" * 32
    assert proof.parse(f"seal garbage\nshape {digest}\ncontent {digest[:-1]}\nx y z\n") == {"shape": digest}
