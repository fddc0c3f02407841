"""Every command in README.md is run: here, or by CI."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.support.fab import REPOSITORY, Running
from tests.support.sshd import Sshd

README = (REPOSITORY / "README.md").read_text()
SET_UP = "python3 -m pip install -qUt .uv uv && .uv/bin/uv run "


def blocks(language: str) -> list[str]:
    """The fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def shell_lines() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def commands() -> Iterator[str]:
    """What README tells people to type, in its order."""
    yield from (line for line in shell_lines() if line.startswith("fab "))
    yield from re.findall(r"^\| `(fab [^`]+)` \|", README, re.MULTILINE)


def test_ci_runs_what_readme_says() -> None:
    """One command runs the demo, one the tests; CI runs the second, the test below the first."""
    assert [line for line in shell_lines() if line.startswith("python3")] == [
        f"{SET_UP}fab demo",
        f"{SET_UP}inv test",
    ]
    assert f"\n{SET_UP}inv test\n" in (REPOSITORY / ".ci/run").read_text()


def test_every_command_works(sshd: Sshd, host_dir: Path, tmp_path: Path) -> None:
    """In the order of README, in a project that is set up as README says."""
    account = f"{sshd.user}@{sshd.host}:{sshd.port}"

    def here(text: str) -> str:
        return text.replace("deploy@web1.example.com", account).replace("/srv/shop", f"{host_dir}/shop")

    (tmp_path / "build").mkdir()
    (tmp_path / "build/index.html").write_text("hello\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    config = next(block for block in blocks("yaml") if "hosts:" in block)
    ran = []
    for command in commands():
        if "--source" not in command:
            (tmp_path / "config.yaml").write_text(here(config))
        if command == "fab init":  # it never replaces one
            (tmp_path / "config.yaml").unlink()
        if "--resume" in command:  # tests/faults interrupts deployments first
            continue
        words = ["-i", str(sshd.identity), *shlex.split(here(command))[1:]]
        Running(words, tmp_path, environment).finish()
        ran.append(command)
    assert len(ran) > 12
    assert (host_dir / "shop/current/index.html").read_text() == "hello\n"


def test_the_configuration_shown_is_valid(tmp_path: Path) -> None:
    from fabfile.settings import load

    for number, block in enumerate(blocks("yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load(file)
