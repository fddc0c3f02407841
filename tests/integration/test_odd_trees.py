"""Trees that nobody would make by hand, deployed one over the other and compared file by file."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.support.site import Site, assert_tidy
from tests.support.sshd import Sshd
from tests.support.trees import assert_same, tree

# A tree: for each name a file (content, mode), a link (its target) or a directory (mode, what is in it).
File = tuple[bytes, int]
Folder = tuple[int, "Node"]
Node = dict[bytes, "File | bytes | Folder"]

NAMES = [
    b"with space", b" ", b"'", b'"', b"a'b\"c", b"new\nline", b"\n", b"tab\tbed", b"cr\rlf", b"back\\slash",
    b"\\n", b"-rf", b"--", b"-", b"#hash", b";semi", b"*", b"?", b"[a]", b"$(touch oops)", b"`id`", b"$HOME",
    b"~", b"&", b"|", b"!", b"%s", b"{a,b}", "ü".encode(), "u\u0308".encode(), "日本".encode(), b"\xff\xfe",
    b"caf\xe9", b"x" * 255, "é".encode() * 127, b"...", b".hidden", b"a", b"b", b"c", b"\x01\x7f", b":", b"=",
    b"a=b", b"+", b"a\n. b", b"a\\", b"CON", b"REVISION.old", b"\x1e", b"touched",
]  # fmt: skip
MODES = [
    0o400,
    0o440,
    0o444,
    0o600,
    0o644,
    0o664,
    0o666,
    0o700,
    0o755,
    0o775,
    0o777,
    0o500,
    0o555,
    0o4755,
    0o1777,
]
LINKS = [
    b"a",
    b"no/such",
    b"./b",
    b"with space",
    b"new\nline",
    b"$(touch oops)",
    b"\xff",
    b"trailing\n",
    b"-n",
]

TRANSFERS = ["stream", "sftp", *(["rsync"] if shutil.which("rsync") else [])]

names = st.sampled_from(NAMES) | st.binary(min_size=1, max_size=12).map(
    lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"0")
).filter(lambda raw: raw not in (b".", b"..", b"REVISION"))
files = st.tuples(st.binary(max_size=40) | st.sampled_from([b"", b"x" * 3000]), st.sampled_from(MODES))
links = st.sampled_from(LINKS)
directory_modes = st.sampled_from([0o700, 0o755, 0o750, 0o711, 0o777, 0o500, 0o555, 0o300 | 0o400])
trees = st.recursive(
    st.dictionaries(names, files | links, max_size=4),
    lambda inner: st.dictionaries(names, files | links | st.tuples(directory_modes, inner), max_size=5),
    max_leaves=12,
)


def deep(levels: int, leaf: Node) -> Node:
    """`leaf` below that many directories."""
    for n in range(levels):
        leaf = {b"d%d" % n: (0o755, leaf)}
    return leaf


def materialise(node: Node, folder: bytes) -> None:
    """Write a tree to the disk; modes last, so that it can be written at all."""
    os.mkdir(folder)  # noqa: PTH102  (bytes)
    for name, what in node.items():
        path = folder + b"/" + name
        if isinstance(what, bytes):
            os.symlink(what, path)  # noqa: PTH211
            continue
        first, second = what
        if isinstance(second, dict):
            assert isinstance(first, int)
            materialise(second, path)
            os.chmod(path, first)  # noqa: PTH101
        else:
            assert isinstance(first, bytes)
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(first)
            os.chmod(path, second)  # noqa: PTH101


def remove(folder: Path) -> None:
    """Remove a tree whatever its modes."""
    for path, _, _ in os.walk(os.fsencode(folder)):
        os.chmod(path, 0o700)  # noqa: PTH101
    shutil.rmtree(os.fsencode(folder))


@pytest.fixture(scope="module")
def numbers() -> Iterator[itertools.count[int]]:
    """Fresh names for the folders of each example."""
    yield itertools.count()


BECOMES = [
    {b"x": (b"file", 0o644), b"y": (0o755, {b"z": (0o755, {b"f": (b"1", 0o600)})}), b"l": b"x"},
    {b"x": (0o500, {b"y": (0o755, {b"\n": (b"", 0o400)})}), b"y": b"x", b"l": (0o755, {})},
    {b"x": (b"file", 0o4711), b"y": (b"", 0o444), b"l": b"y"},
]


@settings(
    max_examples=16,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # no shrinking: every try is several deployments
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(
    versions=st.lists(trees, min_size=2, max_size=3),
    strategy=st.sampled_from(["cache", "previous"]),
    transfer=st.sampled_from(TRANSFERS),
    copy=st.sampled_from(["auto", "hardlink"]),
)
@example([{name: (name, 0o640) for name in NAMES}, {name: (0o755, {name: b"a"}) for name in NAMES}],
         "cache", "stream", "hardlink")  # fmt: skip
@example(
    [{name: b"a" for name in NAMES}, {name: (name, 0o600) for name in NAMES}], "previous", "sftp", "auto"
)
@example([{}, deep(30, {b"f": (b"1", 0o600)}), deep(29, {b"f": b"a"}), {}], "previous", "stream", "auto")
@example(BECOMES, "cache", TRANSFERS[-1], "hardlink")
@example(BECOMES, "previous", TRANSFERS[-1], "auto")
@example([{b"a%d" % n: (0o755, {b"e": (0o755, {})}) for n in range(9)}, {}], "cache", "sftp", "auto")
@pytest.mark.timeout(300)
def test_odd_trees_arrive_whole(
    sshd: Sshd,
    numbers: itertools.count[int],
    tmp_path_factory: pytest.TempPathFactory,
    versions: list[Node],
    strategy: str,
    transfer: str,
    copy: str,
) -> None:
    folder = tmp_path_factory.mktemp(f"odd{next(numbers)}-")
    host_dir = sshd.new_dir("odd-")
    site = Site(sshd, host_dir / "it's a $(site)", {"strategy": strategy, "transfer": transfer, "copy": copy})
    try:
        releases: list[Path] = []
        for n, version in enumerate(versions):
            source = folder / f"v{n}"
            # An empty source is refused, so there is one file that never changes.
            materialise({b"anchor": (b"", 0o644), **version}, os.fsencode(source))
            site.deploy(source)
            assert_same(source, site.current)
            assert stat.S_ISREG((site.current / "REVISION").lstat().st_mode)
            releases.append(site.current)
        for n, release in enumerate(releases):  # none has been touched by those after it
            assert_same(folder / f"v{n}", release)
        assert_tidy(site)
        if strategy == "cache":
            drift = site.cache_sync(source, verify=True).drift
            assert drift == {"missing": [], "altered": [], "extra": []}
        again = site.deploy(source)
        assert (again.files_uploaded, again.files_deleted) == (0, 0)
        assert tree(site.current) == tree(releases[-1])
    finally:
        remove(folder)
        remove(host_dir)
