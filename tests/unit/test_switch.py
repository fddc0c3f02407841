"""The switch by its script alone: one rename, seen from the other side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fabfile.errors import CommandFailed, FilesError
from fabfile.on_host.layout import Layout
from fabfile.session import switch
from tests.support.local import local_host
from tests.support.programs import program

OLD, NEW = "releases/20260101000000", "releases/20260102000000"


class Site:
    """A deploy_to with two releases."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(str(base / "site"))
        self.current = Path(self.layout.current)
        for release in (OLD, NEW):
            (self.current.parent / release).mkdir(parents=True)
        Path(self.layout.own).mkdir()
        self.current.symlink_to(OLD)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_link_is_replaced_by_one_rename(site: Site, tmp_path: Path) -> None:
    """`ln -sf` over it would be an unlink and a symlink on BusyBox: for a moment, no site. So no program but
    mv is ever given the link itself.
    """
    asked = tmp_path / "asked"
    tools = tmp_path / "bin"
    for name in ("ln", "rm", "mv"):
        program(tools, name, f'for last; do :; done; [ "$last" != {site.current} ] || echo {name} >> {asked}')
    switch.point(local_host(tools), site.layout, NEW)
    assert str(site.current.readlink()) == NEW
    assert asked.read_text() == "mv\n"


def test_a_switch_twice_is_one_switch(site: Site) -> None:
    for _ in range(2):
        switch.point(local_host(), site.layout, NEW)
    assert str(site.current.readlink()) == NEW
    assert list(Path(site.layout.own).iterdir()) == [], "no link of a name of its own is left"


def test_no_link_before_is_no_link_again(site: Site) -> None:
    for _ in range(2):
        switch.point(local_host(), site.layout, None)
    assert not site.current.is_symlink()


def test_the_guard_comes_before_all(site: Site) -> None:
    with pytest.raises(CommandFailed):
        switch.point(local_host(), site.layout, NEW, guard="exit 75; ")
    assert str(site.current.readlink()) == OLD


class OtherSide:
    """SFTP that sees another target than the shell has made."""

    uses_sftp = True

    def __init__(self, sees: str | None) -> None:
        self.sees = sees

    @contextlib.contextmanager
    def watching(self, paths: Sequence[str], final: Callable[..., bool]) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def readlink(self, path: str) -> str | None:
        return self.sees

    def settle(self) -> str:
        return ""


@pytest.mark.parametrize(("target", "sees"), [(NEW, OLD), (NEW, None), (None, OLD)])
def test_what_the_other_side_sees_is_compared(site: Site, target: str | None, sees: str | None) -> None:
    """SFTP shows another tree, or another process changes the link: that is no success."""
    host: Any = local_host()
    host.files = OtherSide(sees)
    with pytest.raises(FilesError) as told:
        switch.point(host, site.layout, target)
    assert str(sees) in told.value.why
