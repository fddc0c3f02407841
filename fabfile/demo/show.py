"""The demonstration: the main job, on an embedded server and a small sample site."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from invoke.exceptions import Exit

from .. import fleet
from ..events import Listener
from ..report import console as report
from ..report.screen import Screen
from ..settings import Settings, load
from ..typed import command, program
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
    screen: Screen


def run(keep: bool = False) -> None:
    """Deploy twice, roll back, show the tree, clean up; `keep` leaves the folder.

    Raises Exit with code 1 when any step fails.
    """
    screen = Screen()
    folder = Path(tempfile.mkdtemp(prefix="switchover-demo-"))
    try:
        home = folder / "host"
        home.mkdir()
        with Server(home=home) as server:
            _play(_set_up(folder, server, screen))
    finally:
        if keep:
            screen.blank()
            screen.say((f"The host's files are in {folder}", "dim"))
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _set_up(folder: Path, server: Server, screen: Screen) -> _Stage:
    root = folder / "host" / "srv" / "demo"
    config = CONFIG.format(root=root, known_hosts=server.known_hosts)
    (folder / "config.yaml").write_text(config)
    screen.say(
        f"A real SSH and SFTP server listens on {server.host}:{server.port}, with a shell and a file system."
    )
    screen.say("All that the deployment knows stands in config.yaml:")
    screen.blank()
    for line in config.splitlines():
        screen.say((line, "cyan"), indent=2)
    target = fleet.Target(f"{server.user}@{server.host}:{server.port}", str(server.identity))
    return _Stage(load(folder / "config.yaml"), target, folder / "site", root, screen)


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
    stage.screen.blank()
    stage.screen.say(("On the host", "bold"))
    stage.screen.say(str(stage.root))
    _show_tree(stage.screen, stage.root)
    stage.screen.blank()
    first = program("-H", "you@your-host", "deploy", "--plan")
    stage.screen.say(f"Next: `{command('init')}` writes a config.yaml; then `{first}`.")


def _write_site(site: Path, version: int) -> None:
    (site / "uploads").mkdir(parents=True, exist_ok=True)
    (site / "uploads" / "hello.txt").write_text("what visitors upload outlives releases\n")
    (site / "style.css").write_text("h1 { font: 2rem sans-serif }\n" * 100)
    (site / "index.html").write_text(PAGE.format(version=version))


def _act(stage: _Stage, action: str, caption: str) -> None:
    stage.screen.blank()
    stage.screen.say((f"$ {program('-H', stage.target.address, action)}   ", "bold"), (caption, "dim"))
    with report.Live() as live:
        outcome = _call(stage, action, live.listen)
    report.show_deployment(outcome)
    if not outcome.ok:
        report.show_error(outcome)
        raise Exit(code=1)
    page = (stage.root / "current" / "index.html").read_text().splitlines()[-1]
    stage.screen.say((f"current/index.html says: {page}", "green"))


def _call(stage: _Stage, command: str, listener: Listener) -> fleet.Outcome:
    act = fleet.deploy if command == "deploy" else fleet.rollback
    return act(stage.settings, [stage.target], listener=listener)


def _show_tree(screen: Screen, folder: Path, depth: int = 1) -> None:
    """What is in `folder`, three levels deep; .switchover is only named."""
    for path in _sorted(folder):
        if path.is_symlink():
            style = "bold green" if path.name == "current" else ""
            screen.say((f"{path.name} -> {path.readlink()}", style), indent=2 * depth)
        elif path.is_dir():
            screen.say(f"{path.name}/", indent=2 * depth)
            if depth <= 3 and path.name != ".switchover":
                _show_tree(screen, path, depth + 1)
        else:
            screen.say(path.name, indent=2 * depth)


def _sorted(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir(), key=lambda path: path.name)
