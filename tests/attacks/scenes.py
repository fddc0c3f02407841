"""What an attack is made of, drawn from a seed: sources, a site, and links planted in it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("a", "b", "d", "in", "x y", "-rf", "é", "$(x)", "'q", "new\nline")
TRANSFERS = ("stream", "sftp", "rsync")
STRATEGIES = ("cache", "previous")
COPIES = ("auto", "auto", "full", "hardlink")
ACTIONS = (
    "deploy",
    "deploy",
    "deploy",
    "deploy",
    "deploy",
    "scratch",
    "rollback",
    "sync",
    "repair",
    "verify",
    "plan",
    "releases",
)
SHARED: tuple[dict[str, list[str]], ...] = (
    {}, {}, {"dirs": ["up"]}, {"dirs": ["d/up"], "files": [".env"]}, {"dirs": ["in"], "files": ["d/a"]},
)  # fmt: skip

WEIGHTS = {"cache": 3, "live": 3, "incoming": 2}  # where links do most harm, if any

# A file (content, mode), a link (its target) or a directory (mode).
Node = tuple[str, str, int]


@dataclass
class Scene:
    """One attack.

    versions: the source, deployment by deployment. keys: of the configuration. actions: what is done once the
    links are planted. swaps: who exchanges directories for links while that goes on, instead: "same", the
    login account itself, wherever it may; "other", another account, where all may write; "" for nobody.
    """

    seed: int
    versions: list[dict[str, Node]]
    keys: dict[str, Any]
    actions: list[str]
    swaps: str
    rng: random.Random = field(repr=False)

    @property
    def shared(self) -> list[str]:
        """The shared paths."""
        shared = self.keys["shared"]
        return [*shared.get("dirs", []), *shared.get("files", [])]


def draw(seed: int) -> Scene:
    """The scene of this seed: always the same one."""
    rng = random.Random(seed)
    first = _tree(rng)
    versions = [first]
    for _ in range(rng.choice((2, 2, 3))):
        versions.append(_changed(rng, versions[-1]))
    shared = rng.choice(SHARED)
    # Each pair comes along in turn, whatever the rest draws.
    strategy, transfer = STRATEGIES[seed % 2], TRANSFERS[seed // 2 % 3]
    keys: dict[str, Any] = {
        "strategy": strategy,
        "transfer": transfer,
        "copy": rng.choice(COPIES),
        "shared": shared,
        "keep_releases": rng.choice((1, 2, 3)),
    }
    actions = [rng.choice(ACTIONS) for _ in range(rng.choice((1, 1, 2)))]
    if strategy == "previous":
        actions = ["deploy" if action in ("sync", "repair", "verify") else action for action in actions]
    swaps = rng.choice(("", "", "", "same", "other"))
    versions = [_fitting(version, shared) for version in versions]
    return Scene(seed, versions, keys, ["deploy"] if swaps else actions, swaps, rng)


def _tree(rng: random.Random) -> dict[str, Node]:
    tree: dict[str, Node] = {}
    folders = [""]
    for _ in range(rng.randrange(4, 18)):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))  # noqa: PTH118
        if path in tree or path.count("/") > 4:
            continue
        tree[path] = _node(rng)
        if tree[path][0] == "dir":
            folders.append(path)
    tree.setdefault("a", ("file", "1", 0o644))
    return tree


def _node(rng: random.Random) -> Node:
    kind = rng.random()
    if kind < 0.45:
        return ("dir", "", rng.choice((0o755, 0o755, 0o775, 0o777, 0o700)))
    if kind < 0.95:
        return (
            "file",
            str(rng.randrange(1000)) * rng.choice((0, 1, 2000)),
            rng.choice((0o644, 0o600, 0o755)),
        )
    return ("link", rng.choice(("a", "no/such", "./b")), 0)


def _changed(rng: random.Random, tree: dict[str, Node]) -> dict[str, Node]:
    """The next version: some changed, some gone, some of another kind, some new."""
    after = dict(tree)
    for path in list(after):
        chance = rng.random()
        if path not in after or chance > 0.5:
            continue
        if chance < 0.15 and path != "a":
            after = _without(after, path)
        elif chance < 0.25 and path != "a":
            after = {**_without(after, path), path: _node(rng)}
        elif after[path][0] == "file":
            after[path] = ("file", str(rng.randrange(10**6)), after[path][2])
    folders = ["", *(path for path, node in after.items() if node[0] == "dir")]
    for _ in range(rng.randrange(1, 6)):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))  # noqa: PTH118
        if path not in after and path.count("/") <= 4:
            after[path] = _node(rng)
    return after


def _fitting(tree: dict[str, Node], shared: dict[str, list[str]]) -> dict[str, Node]:
    """Without what can't be shared as the configuration says."""
    kinds = {path: "file" for path in shared.get("files", [])}
    for path in shared.get("dirs", []):
        kinds[path] = "dir"
    for path in list(kinds):
        kinds |= {str(parent): "dir" for parent in Path(path).parents if str(parent) != "."}
    for path, kind in kinds.items():
        if path in tree and tree[path][0] != kind:
            tree = _without(tree, path)
    return tree


def _without(tree: dict[str, Node], path: str) -> dict[str, Node]:
    return {p: node for p, node in tree.items() if p != path and not p.startswith(f"{path}/")}


def materialise(tree: dict[str, Node], folder: Path) -> Path:
    """Write a version over whatever is in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(tree):
        kind, text, _ = tree[path]
        if kind == "dir":
            (folder / path).mkdir()
        elif kind == "link":
            (folder / path).symlink_to(text)
        else:
            (folder / path).write_text(text)
    for path in sorted(tree, reverse=True):
        if tree[path][0] != "link":
            (folder / path).chmod(tree[path][2])
    return folder


# -- links in all places -----------------------------------------------------------------------------------


def places(site: Path) -> dict[str, list[Path]]:
    """Where a link may be planted, by what it is a part of; what is there already, files and directories."""
    live = site / "current"
    trees = {
        "live": site / os.readlink(live) if live.is_symlink() else site / "none",  # noqa: PTH115
        "cache": site / "cache",
        "releases": site / "releases",
        "shared": site / "shared",
        "own": site / ".switchover",
        "incoming": site / ".switchover/incoming",
    }
    found = {name: sorted(_below(folder)) for name, folder in trees.items()}
    found["top"] = sorted(site.iterdir())
    return {name: paths for name, paths in found.items() if paths}


def _below(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():  # whoever is led astray here is the one who plants, with all rights
        return
    for at, folders, files in os.walk(folder):
        yield from (Path(at) / name for name in (*folders, *files))


def plant(scene: Scene, site: Path, canary: Path, give: Callable[[Path], object]) -> list[Path]:
    """Put links in the place of things, or beside them; where."""
    rng, planted = scene.rng, []
    aside = site.parent / "aside"
    aside.mkdir(exist_ok=True)
    for number in range(rng.choice((1, 2, 3, 4, 6))):
        there = places(site)
        kind = rng.choice([name for name in sorted(there) for _ in range(WEIGHTS.get(name, 1))])
        folders = [path for path in there[kind] if path.is_dir() and not path.is_symlink()]
        path = rng.choice(folders if folders and rng.random() < 0.6 else there[kind])
        if rng.random() < 0.2:
            path = path.with_name(rng.choice((*NAMES, "manifest.new", "touched.new", "current.back")))
        if path.is_symlink() and path.name == "current":
            continue
        assert path.parent.resolve().is_relative_to(site.parent), path
        target = _target(rng, path, site, canary, aside / f"chain-{number}")
        # Another disk: what is written there is written where it should be.
        if path in (site / "releases", site / "shared") and _leads_to(path, target, canary):
            continue
        if os.path.lexists(path):
            path.rename(aside / f"{number}-{rng.randrange(10**6)}")
        path.symlink_to(target)
        give(path)
        planted.append(path)
    return planted


def _leads_to(path: Path, target: str, canary: Path) -> bool:
    return Path(os.path.realpath(path.parent / target)).is_relative_to(canary)


def _target(rng: random.Random, path: Path, site: Path, canary: Path, chain: Path) -> str:
    inside = rng.choice((canary, canary, canary / "d", canary / "in", canary / "d/in", canary / "a"))
    how = rng.randrange(10)
    if how < 5:
        return str(inside)
    if how == 5:
        return os.path.relpath(inside, path.parent.resolve())
    if how == 6:
        if not os.path.lexists(chain):
            chain.symlink_to(inside)
        return str(chain)
    return rng.choice(
        (
            "/",
            "..",
            "../../../..",
            ".",
            "no/such",
            path.name,
            str(site),
            str(site / "shared"),
            str(canary / "new"),
        )
    )
