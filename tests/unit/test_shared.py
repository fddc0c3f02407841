"""What is shared, by the scripts alone: nothing that users wrote is lost when a path becomes shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.build import shared
from fabfile.on_host.layout import Layout
from fabfile.remote.files import PathInfo
from fabfile.remote.script_files import quote
from tests.support.local import sh

pytestmark = pytest.mark.usefixtures("each_shell")

ID = "20260101000000"
WAY = "../../shared"  # from a release to shared/


class SharedSite:
    """A deploy_to with one release, and what was uploaded as seeds."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(str(root))
        self.shared, self.seeds = root / "shared", root / "seeds"
        self.release = root / "releases" / ID
        self.live = root / "releases" / "20250101000000"
        for path in (self.shared, self.seeds, self.release, self.live):
            path.mkdir(parents=True)

    def link(
        self,
        *,
        dirs: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
        seeds: bool = True,
        before: bool = False,
        prelude: str = ":",
    ) -> list[str]:
        """Link them into the release, what is said of it; `before`: they are shared in the live one, too;
        `prelude`: commands that go before.
        """
        seeded, fresh = str(self.seeds) if seeds else "", () if before else (*dirs, *files)
        what = shared.Shared(dirs, files, str(self.live), fresh, seeded)
        done = sh(f"{prelude}\n{shared.link(self.layout, str(self.release), what, keep_links=False)}")
        if done.returncode:
            raise AssertionError(done.stderr.decode())
        return done.stdout.decode().splitlines()


@pytest.fixture
def site(tmp_path: Path) -> SharedSite:
    return SharedSite(tmp_path / "site")


@pytest.mark.promise("shared")
def test_a_dangling_link_in_shared_stays(site: SharedSite) -> None:
    """Somebody keeps a secret on a disk that is not mounted now: it is not replaced by the source's file."""
    (site.shared / ".env").symlink_to("/mnt/secrets/env")
    (site.seeds / ".env").write_text("from the source\n")
    site.link(files=(".env",))
    assert (site.shared / ".env").readlink() == Path("/mnt/secrets/env")
    assert (site.release / ".env").is_symlink()


@pytest.mark.promise("shared")
def test_a_dangling_link_in_shared_stays_for_a_directory(site: SharedSite) -> None:
    (site.shared / "uploads").symlink_to("/mnt/uploads")
    with pytest.raises(AssertionError, match="uploads is not there"):
        site.link(dirs=("uploads",), seeds=False)
    assert (site.shared / "uploads").readlink() == Path("/mnt/uploads")


@pytest.mark.promise("shared")
@pytest.mark.parametrize("seeds", [True, False], ids=["with a seed", "without one"])
def test_what_the_site_wrote_before_it_was_shared_goes_along(site: SharedSite, seeds: bool) -> None:
    (site.live / "storage").mkdir()
    (site.live / "storage/upload.jpg").write_text("by a user\n")
    if seeds:
        (site.seeds / "storage").mkdir()
        (site.seeds / "storage/.gitignore").write_text("*\n")
    site.link(dirs=("storage",))
    assert (site.shared / "storage/upload.jpg").read_text() == "by a user\n"
    assert (site.release / "storage").is_symlink()
    assert (site.shared / "storage/.gitignore").exists() == seeds


@pytest.mark.promise("shared")
def test_what_the_site_wrote_goes_to_a_shared_directory_that_is_there(site: SharedSite) -> None:
    for place, text in ((site.shared, "in shared/\n"), (site.live, "in the release\n")):
        (place / "storage").mkdir()
        (place / "storage/both").write_text(text)
    (site.live / "storage/upload.jpg").write_text("by a user\n")
    site.link(dirs=("storage",))
    assert (site.shared / "storage/upload.jpg").read_text() == "by a user\n"
    assert (site.shared / "storage/both").read_text() == "in shared/\n"


@pytest.mark.promise("links")
@pytest.mark.parametrize("kind", ["dirs", "files"])
def test_nothing_is_put_into_shared_through_a_link(site: SharedSite, tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (site.shared / "a").symlink_to(elsewhere)
    (site.seeds / "a").mkdir()
    (site.seeds / "a/b").write_text("from the source\n")
    paths = ("a/b",)
    with pytest.raises(AssertionError, match="leads through a link"):
        site.link(dirs=paths) if kind == "dirs" else site.link(files=paths)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.promise("links")
def test_a_release_that_is_led_elsewhere_is_not_linked(site: SharedSite, tmp_path: Path) -> None:
    """Somebody moves it while it is worked on: its link leads to another shared/, or to nothing."""
    (site.shared / ".env").write_text("ours\n")
    other = tmp_path / "another/releases"
    other.mkdir(parents=True)
    (other.parent / "shared").mkdir()
    (other.parent / "shared/.env").write_text("another's\n")
    moved = f'ln() {{ command ln "$@" && mv {quote(str(site.release))} {quote(str(other))}; }}'
    with pytest.raises(AssertionError, match=r"\.env of the release does not lead to"):
        site.link(files=(".env",), prelude=moved)


@pytest.mark.parametrize("before", [True, False], ids=["ours", "the site's"])
def test_only_a_link_of_the_sites_own_is_told(site: SharedSite, before: bool) -> None:
    """A shared file that nobody has put there yet is a dangling link of ours in the live release."""
    (site.live / ".env").symlink_to("../../shared/.env")
    assert ("left .env" in site.link(files=(".env",), before=before)) == (not before)


@pytest.mark.promise("shared")
def test_what_is_in_shared_already_wins(site: SharedSite) -> None:
    (site.shared / "storage").mkdir()
    (site.shared / "storage/a").write_text("precious\n")
    (site.seeds / "storage").mkdir()
    (site.seeds / "storage/a").write_text("from the source\n")
    site.link(dirs=("storage",))
    assert (site.shared / "storage/a").read_text() == "precious\n"


@pytest.mark.parametrize("says", [None, "/etc", "../../shared/other"])
def test_a_shared_path_that_is_not_linked_as_it_should_is_wrong(says: str | None) -> None:
    seen = {"/r/a/b": PathInfo(None, says), "/r/c": PathInfo(None, shared.target("c", WAY))}
    (wrong,) = shared.wrong(seen, "/r", ["a/b", "c"], WAY)
    assert wrong.startswith("a/b ->")


def test_links_are_relative_and_as_deep_as_their_path() -> None:
    assert shared.target("a", WAY) == "../../shared/a"
    assert shared.target("a/b/c", WAY) == "../../../../shared/a/b/c"
