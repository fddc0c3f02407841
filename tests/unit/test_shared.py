"""What is shared, by the scripts alone: nothing that users wrote is lost when a path becomes shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.build import shared
from fabfile.on_host.layout import Layout
from fabfile.remote.files import PathInfo
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
    ) -> list[str]:
        """Link them into the release, what is said of it; `before`: they are shared in the live one, too."""
        seeded, fresh = str(self.seeds) if seeds else "", () if before else (*dirs, *files)
        what = shared.Shared(dirs, files, str(self.live), fresh, seeded)
        done = sh(shared.link(self.layout, str(self.release), what, keep_links=False))
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
