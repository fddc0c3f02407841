"""How a tree becomes another one, by the scripts alone: what is not ours in it stays as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from fabfile.build import apply
from fabfile.on_host.manifest import Difference, Entry, Manifest
from tests.support.local import sh

pytestmark = pytest.mark.usefixtures("each_shell")


def file(path: str, text: str = "new\n") -> Entry:
    return Entry(path, "file", 0o644, len(text), 0, text)


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, "dir", mode)


class Trees:
    """A staging directory, a target, and a place elsewhere."""

    def __init__(self, base: Path) -> None:
        self.staging, self.target, self.elsewhere = base / "staging", base / "target", base / "elsewhere"
        for path in (self.staging, self.target, self.elsewhere):
            path.mkdir()

    def write(self, root: Path, path: str, text: str) -> Path:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        return root / path

    def stage(self, difference: Difference) -> None:
        for entry in difference.uploads:
            self.write(self.staging, entry.path, entry.content)

    def become(self, base: Iterable[Entry], wanted: Iterable[Entry], doubtful: Iterable[str] = ()) -> None:
        """Bring the target from `base` to `wanted` by apply.commands()."""
        old = Manifest(base)
        difference = old.difference(Manifest(wanted), doubtful)
        self.stage(difference)
        self.run(apply.commands(difference, old, str(self.staging), str(self.target)))

    def run(self, commands: Iterable[str]) -> None:
        done = sh("\n".join(["set -e", apply.ENTER, *commands]))
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(params=["one by one", "many at once"])
def trees(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Trees:
    """Directories are done one by one where they are few; here each way does what there is."""
    monkeypatch.setattr(apply, "FEW", 10**6 if request.param == "one by one" else -1)
    return Trees(tmp_path)


def test_a_directory_that_vanishes_keeps_what_somebody_put_there(trees: Trees) -> None:
    base = [folder("d"), file("d/ours", "old\n")]
    trees.write(trees.target, "d/ours", "old\n")
    trees.write(trees.target, "d/by-hand", "mine\n")
    trees.become(base, [])
    assert [path.name for path in (trees.target / "d").iterdir()] == ["by-hand"]


def test_a_directory_that_vanishes_goes_when_it_is_empty(trees: Trees) -> None:
    base = [folder("d"), folder("d/e"), file("d/e/ours", "old\n")]
    trees.write(trees.target, "d/e/ours", "old\n")
    trees.become(base, [])
    assert list(trees.target.iterdir()) == []


@pytest.mark.promise("links")
def test_a_link_in_the_place_of_a_directory_is_not_followed(trees: Trees) -> None:
    """The manifest says directory; somebody has put a link to another site there."""
    precious = trees.write(trees.elsewhere, "x", "precious\n")
    trees.elsewhere.chmod(0o750)
    (trees.target / "d").symlink_to(trees.elsewhere)
    trees.become([folder("d", 0o700), file("d/x", "old\n")], [folder("d"), file("d/x")])
    assert precious.read_text() == "precious\n" and list(trees.elsewhere.iterdir()) == [precious]
    assert trees.elsewhere.stat().st_mode & 0o777 == 0o750
    assert not (trees.target / "d").is_symlink()
    assert (trees.target / "d/x").read_text() == "new\n"


@pytest.mark.promise("links")
def test_a_link_in_the_place_of_a_new_directory_is_not_followed(trees: Trees) -> None:
    (trees.target / "d").symlink_to(trees.elsewhere)
    trees.become([], [folder("d"), file("d/x")])
    assert list(trees.elsewhere.iterdir()) == []
    assert (trees.target / "d/x").read_text() == "new\n" and not (trees.target / "d").is_symlink()


def test_a_directory_made_by_hand_keeps_what_is_in_it(trees: Trees) -> None:
    """The source has a directory now which somebody has made before, with something in it."""
    trees.write(trees.target, "n/by-hand", "mine\n")
    trees.become([], [folder("n"), file("n/ours")])
    assert (trees.target / "n/by-hand").read_text() == "mine\n"
    assert (trees.target / "n/ours").read_text() == "new\n"


def replaced(trees: Trees, how: str, linked: bool) -> None:
    """d/x is brought from old to new by one of the ways; nobody writes into the old file.

    "a copy": from a tree that stays as it is, not from a staging directory.
    """
    here = trees.write(trees.target, "d/x", "old\n")
    if linked:
        os.link(here, trees.elsewhere / "x")
    old, wanted = Manifest([folder("d"), file("d/x", "old\n")]), Manifest([folder("d"), file("d/x")])
    if how == "a new directory":
        old = Manifest()
    difference = old.difference(wanted)
    trees.stage(difference)
    # Not each file system has hard links.
    no_links = 'cp() { case $1 in -lP) return 1 ;; esac; command cp "$@"; }' if how == "no links" else ":"
    staged = how != "a copy"
    commands = apply.commands(difference, old, str(trees.staging), str(trees.target), staged=staged)
    with here.open() as reader:
        trees.run([no_links, *commands])
        assert here.read_text() == "new\n" and reader.read() == "old\n"
    assert not linked or (trees.elsewhere / "x").read_text() == "old\n"
    assert staged or (trees.staging / "d/x").read_text() == "new\n"


@pytest.mark.promise("in-place")
@pytest.mark.parametrize("linked", [False, True], ids=["somebody reads it", "it has a hard link"])
@pytest.mark.parametrize("how", ["links", "no links", "a new directory", "a copy"])
def test_a_file_is_replaced_and_never_written_to(trees: Trees, how: str, linked: bool) -> None:
    """Whoever has the old file open, or a hardlinked copy of the tree, keeps the old content."""
    replaced(trees, how, linked)
