"""The demonstration: the main job, on an embedded server and a small sample site."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from invoke.exceptions import Exit
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from .. import fleet
from ..events import Listener
from ..report import console as report
from ..settings import Settings, load
from .server import Server

CONFIG = """\
application: demo
deploy_to: {root}
source:
  path: ./site
shared:
  dirs: [uploads]
ssh:
  known_hosts: {known_hosts}
"""

PAGE = "<!doctype html>\n<link rel=stylesheet href=style.css>\n<h1>Version {version}</h1>\n"


@dataclass(frozen=True)
class _Stage:
    """Where the demonstration takes place."""

    settings: Settings
    target: fleet.Target
    site: Path
    root: Path
    console: Console


def run(keep: bool = False) -> None:
    """Deploy twice, roll back, show the tree, clean up; `keep` leaves the folder.

    Raises Exit with code 1 when any step fails.
    """
    console = report.make_console()
    folder = Path(tempfile.mkdtemp(prefix="switchover-demo-"))
    try:
        home = folder / "host"
        home.mkdir()
        with Server(home=home) as server:
            _play(_set_up(folder, server, console))
    finally:
        if keep:
            console.print(f"\nThe host's files are in {folder}", style="dim")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _set_up(folder: Path, server: Server, console: Console) -> _Stage:
    root = folder / "host" / "srv" / "demo"
    config = CONFIG.format(root=root, known_hosts=server.known_hosts)
    (folder / "config.yaml").write_text(config)
    console.print(
        f"A real SSH and SFTP server listens on {server.host}:{server.port}, with a shell and a file system."
    )
    console.print("All it is told stands in config.yaml:\n")
    console.print(Text("".join(f"  {line}\n" for line in config.splitlines()), "cyan"))
    target = fleet.Target(f"{server.user}@{server.host}:{server.port}", str(server.identity))
    return _Stage(load(folder / "config.yaml"), target, folder / "site", root, console)


def _play(stage: _Stage) -> None:
    _write_site(stage.site, 1)
    _act(stage, "deploy", "The first deployment: everything is uploaded.")
    _write_site(stage.site, 2)
    _act(
        stage,
        "deploy",
        "The page was changed: only that is uploaded, then `current` is replaced by one rename.",
    )
    _act(stage, "rollback", "And back, by one rename.")
    stage.console.print("\n[bold]On the host[/]")
    stage.console.print(_tree(stage.root))
    stage.console.print(
        "\nNext: `config.example.yaml` explains every key; then `fab -H you@your-host deploy --plan`."
    )


def _write_site(site: Path, version: int) -> None:
    (site / "uploads").mkdir(parents=True, exist_ok=True)
    (site / "uploads" / "hello.txt").write_text("what visitors upload outlives releases\n")
    (site / "style.css").write_text("h1 { font: 2rem sans-serif }\n" * 100)
    (site / "index.html").write_text(PAGE.format(version=version))


def _act(stage: _Stage, command: str, caption: str) -> None:
    stage.console.print(
        f"\n[bold]$ fab -H {stage.target.address} {command}[/]   [dim]{caption}[/]", soft_wrap=True
    )
    with report.Live() as live:
        outcome = _call(stage, command, live.listen)
    report.show_deployment(outcome)
    if not outcome.ok:
        report.show_error(outcome)
        raise Exit(code=1)
    page = (stage.root / "current" / "index.html").read_text().splitlines()[-1]
    stage.console.print(f"current/index.html says: {page}", markup=False, style="green")


def _call(stage: _Stage, command: str, listener: Listener) -> fleet.Outcome:
    act = fleet.deploy if command == "deploy" else fleet.rollback
    return act(stage.settings, [stage.target], listener=listener)


def _tree(root: Path) -> Tree:
    tree = Tree(str(root))
    _grow(tree, root, depth=2)
    return tree


def _grow(tree: Tree, folder: Path, depth: int) -> None:
    for path in _sorted(folder):
        if path.is_symlink():
            tree.add(
                Text(f"{path.name} -> {path.readlink()}", "bold green" if path.name == "current" else "")
            )
        elif path.is_dir():
            branch = tree.add(f"{path.name}/")
            if depth and path.name != ".switchover":
                _grow(branch, path, depth - 1)
        else:
            tree.add(path.name)


def _sorted(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir(), key=lambda path: path.name)
