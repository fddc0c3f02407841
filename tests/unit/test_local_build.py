"""The local build, and the folders that a command makes for itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fabfile.errors import LocalHookFailed
from fabfile.local.build import LINE, build
from fabfile.local.local_cache import cache_folder
from fabfile.local.scratch import scratch


def test_a_build_ends_when_its_command_ends(tmp_path: Path) -> None:
    lines: list[str] = []
    started = time.monotonic()
    build(["sleep 60 & echo built; printf end"], tmp_path, 50, lines.append)
    assert lines == ["built", "end"]
    assert time.monotonic() - started < 50


def test_lines_come_while_it_runs(tmp_path: Path) -> None:
    def answer(line: str) -> None:
        (tmp_path / "seen").touch()

    build(["echo one; until [ -e seen ]; do sleep 0.05; done"], tmp_path, 30, answer)


def test_a_line_without_end_comes_in_pieces(tmp_path: Path) -> None:
    lines: list[str] = []
    build([f"head -c {3 * LINE} /dev/zero | tr '\\0' x"], tmp_path, 30, lines.append)
    assert "".join(lines) == "x" * 3 * LINE and max(map(len, lines)) <= LINE


def test_the_command_is_in_no_argument_list(tmp_path: Path) -> None:
    lines: list[str] = []
    command = "tr '\\0' ' ' < /proc/$$/cmdline; env | grep -c S3cret || : # S3cret"
    build([command], tmp_path, 30, lines.append)
    assert "S3cret" not in "".join(lines) and lines[-1].endswith("0")


def test_a_build_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    with pytest.raises(LocalHookFailed):
        build(["sleep 61 & echo $! > pid; wait"], tmp_path, 2, lambda line: None)
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_failure_says_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(LocalHookFailed) as caught:
        build(["echo why; exit 3"], tmp_path, 30, lambda line: None)
    assert "exit status 3: why" in caught.value.why


def test_what_a_killed_command_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = (
        "import sys, time\nfrom fabfile.local.scratch import scratch\n"
        "with scratch() as f:\n (f / 'x').touch()\n print(f, flush=True)\n time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with scratch() as mine:
            assert left.exists() and mine.stat().st_mode & 0o777 == 0o700
        process.send_signal(signal.SIGKILL)
    assert (left / "x").exists()
    with scratch() as mine:
        assert list((cache_folder() / "scratch").iterdir()) == [mine]
    assert not mine.exists()
