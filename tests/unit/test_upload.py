"""An upload that was cut: what is gone on with, what is written down, and what the host makes is proven."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabfile.build import upload
from fabfile.build.upload import StagedUpload, UploadTarget
from fabfile.errors import AnswerNotUnderstood
from fabfile.on_host import state
from fabfile.on_host.layout import Layout
from fabfile.on_host.manifest import Entry, Manifest, RemoteContents
from tests.support.local import local_host, sh
from tests.support.programs import program

pytestmark = pytest.mark.usefixtures("each_shell")

PART = b"0123456789" * 10
REST = b"abcdefghij" * 10


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(path: str, text: str = "new\n", mode: int = 0o644) -> Entry:
    return Entry(path, "file", mode, len(text), 1_700_000_000, digest(text.encode()))


# -- a large file that has arrived in part ---------------------------------------------------------------


class Source:
    """A source of one file; `sent` is what it gives for the rest of it."""

    def __init__(self, sent: bytes = REST) -> None:
        self.sent = sent

    def digest_of_first(self, entry: Entry, count: int) -> str:
        return digest((PART + REST)[:count])

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        assert offset == len(PART)
        yield self.sent


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(upload, "RESUME_FROM", 10)
    (tmp_path / "large").write_bytes(PART)
    return tmp_path


def resume(staging: Path, source: Source, path: Path | None = None) -> bool:
    whole = PART + REST
    wanted = Entry("large", "file", 0o640, len(whole), 1_700_000_000, digest(whole))
    found = Entry("large", "file", 0o600, (staging / "large").stat().st_size)
    given: Any = source
    return upload._resume(local_host(path), given, wanted, found, str(staging))


def test_the_rest_of_a_large_file_is_appended(staging: Path) -> None:
    assert resume(staging, Source())
    assert (staging / "large").read_bytes() == PART + REST
    assert (staging / "large").stat().st_mode & 0o777 == 0o640
    assert int((staging / "large").stat().st_mtime) == 1_700_000_000


def test_a_file_whose_end_is_not_right_is_not_whole(staging: Path) -> None:
    """The source was changed while it was sent, or the disk lies: the file is sent again."""
    assert not resume(staging, Source(b"X" * len(REST)))


def test_a_file_whose_beginning_is_of_something_else_is_left_alone(staging: Path) -> None:
    (staging / "large").write_bytes(b"X" + PART[1:])
    assert not resume(staging, Source())
    assert (staging / "large").read_bytes() == b"X" + PART[1:], "and nothing was sent"


@pytest.mark.parametrize("said", ["", "command not available"])
def test_a_checksum_that_is_none_is_not_understood(staging: Path, tmp_path: Path, said: str) -> None:
    tools = program(tmp_path / "bin", "sha256sum", f"echo {said}; exit")
    with pytest.raises(AnswerNotUnderstood):
        resume(staging, Source(), tools)


# -- what a cut upload may have left in any state --------------------------------------------------------


class Site:
    """A cache with a manifest, and an upload that is staged."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(str(base / "site"))
        self.old = Manifest([entry("a", "old\n"), entry("gone", "old\n"), entry("stays", "old\n")])
        self.wanted = Manifest([entry("a"), entry("new"), entry("stays", "old\n")])
        self.staging = Path(self.layout.incoming, "tree")
        self.cache, self.kept = Path(self.layout.cache), Path(self.layout.cache_state)
        for folder in (self.staging, self.cache, self.kept):
            folder.mkdir(parents=True)
        for one in self.old:
            (self.cache / one.path).write_text("old\n")
        for name in ("a", "new"):
            (self.staging / name).write_text("new\n")
        (self.kept / "manifest").write_bytes(self.old.dumps())

    def update(self, doubtful: frozenset[str] = frozenset(), whole: bool = False) -> StagedUpload:
        known = RemoteContents(self.old, doubtful, digest(self.old.dumps()))
        difference = known.difference(self.wanted)
        after = self.old.after(difference)
        place = UploadTarget(str(self.cache), str(self.staging), str(self.kept))
        if whole:
            (self.kept / "manifest.new").write_bytes(after.dumps())
        return StagedUpload(place, known, difference, len(after), whole, digest(after.dumps()))

    def known(self) -> RemoteContents:
        """What the next deployment knows of the cache."""
        host = local_host()
        (said,) = host.shell.batch([state.asking(self.layout)])
        kept = state.parse(said, "Reading", self.layout).manifests.get("cache")
        return state.known(host, self.layout.cache_state, kept)

    def manifest(self) -> Manifest:
        return Manifest.loads((self.kept / "manifest").read_bytes())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("whole", [False, True], ids=["made on the host", "sent"])
def test_an_upload_that_is_put_in_its_place(site: Site, whole: bool) -> None:
    done = sh(site.update(whole=whole).script)
    assert done.returncode == 0, done.stderr.decode()
    assert {path.name: path.read_text() for path in site.cache.iterdir()} == {
        "a": "new\n",
        "new": "new\n",
        "stays": "old\n",
    }
    assert not site.manifest().difference(site.wanted)
    assert not (site.kept / "touched").exists() and not site.staging.exists()
    assert site.known().doubtful == frozenset()


def test_paths_are_in_doubt_from_the_first_change_on(site: Site, tmp_path: Path) -> None:
    """It is cut at the first file that is put in its place: the next one takes none of them as they seem."""
    cut = program(tmp_path / "bin", "cp", "kill -9 $PPID; exit 1")
    done = sh(site.update().script, path=cut)
    assert done.returncode != 0
    known = site.known()
    assert known.doubtful == {"a", "gone", "new"}
    again = known.difference(site.wanted)
    assert {e.path for e in again.written} == {"a", "new"} and {e.path for e in again.deleted} == {"gone"}


def test_doubt_is_read_with_the_manifest_too(site: Site) -> None:
    """Where the manifest is not remembered here, it travels together with what is in doubt."""
    sh(upload.mark_untrusted(str(site.kept), ["a", "odd\nname\t\\"]))
    assert state.read_manifest(local_host(), str(site.kept)).doubtful == {"a", "odd\nname\t\\"}
    assert site.known().doubtful == {"a", "odd\nname\t\\"}


def test_doubt_adds_up_over_several_cuts(site: Site) -> None:
    sh(upload.mark_untrusted(str(site.kept), ["a"]))
    sh(upload.mark_untrusted(str(site.kept), ["b"]))
    assert site.known().doubtful == {"a", "b"}


@pytest.mark.parametrize("how", ["a line more", "another line", "cut"])
def test_a_manifest_that_the_host_makes_is_proven(site: Site, how: str) -> None:
    """The manifest it is made from is not the one that was read: it is refused, and the old one stays."""
    update = site.update()
    text = (site.kept / "manifest").read_text()
    tampered = {
        "a line more": text + "file\t644\t1\t1\t0\tx\n",
        "another line": text.replace("stays", "other"),
        "cut": "\n".join(text.splitlines()[:-1]) + "\n",
    }[how]
    (site.kept / "manifest").write_text(tampered)
    done = sh(update.script)
    assert done.returncode != 0 and "is not what it was" in done.stderr.decode()
    assert (site.kept / "manifest").read_text() == tampered
    assert (site.kept / "touched").exists(), "what was changed stays in doubt"


def test_an_upload_may_be_put_in_its_place_twice(site: Site) -> None:
    """Cut after all was done and before we heard of it: run again, it ends the same."""
    update = site.update(whole=True)
    assert sh(update.script).returncode == 0
    (site.kept / "manifest.new").write_bytes(site.manifest().dumps())
    site.staging.mkdir()
    for name in ("a", "new"):
        (site.staging / name).write_text("new\n")
    assert sh(update.script).returncode == 0
    assert (site.cache / "a").read_text() == "new\n" and not (site.cache / "gone").exists()
