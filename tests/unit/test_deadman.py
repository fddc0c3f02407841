"""The dead man's switch by a clock that the test turns: when it acts, and when it must not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fabfile.session import deadman
from fabfile.site.layout import Layout
from tests.support.local import local_host

WITHIN = 30
START = 1_000_000_000  # seconds since 1970, when the test's clock begins
OLD, NEW, OTHER = "20260101000000", "20260102000000", "20260103000000"


class Timer:
    """What arm() starts on the host, run with a clock of its own: `sleep` turns it on, `date` reads it."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(str(base / "site"))
        self.owner = base / "owner"
        self.clock, self.bin, self.told = base / "clock", base / "bin", base / "told"
        self.folder = str(base / "job")
        self.bin.mkdir()
        self._program("sleep", f"read now < {self.clock}; echo $((now + ${{1%%.*}})) > {self.clock}")
        self._program("date", f"cat {self.clock}")
        self.clock.write_text(f"{START}\n")
        self.owner.touch()
        os.utime(self.owner, (START, START))
        for release in (OLD, NEW, OTHER):
            Path(self.layout.release(release)).mkdir(parents=True)
        Path(self.layout.own).mkdir()
        self.point(NEW)
        self.script = ""

    def _program(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def point(self, release: str) -> None:
        current = Path(self.layout.current)
        current.unlink(missing_ok=True)
        current.symlink_to(f"releases/{release}")

    @property
    def live(self) -> str | None:
        current = Path(self.layout.current)
        return current.readlink().name if current.is_symlink() else None

    def start(self, name: str, script: str, what: str, **_: Any) -> None:
        """In place of Jobs.start."""
        self.script = script

    def arm(self, old: str | None) -> None:
        host: Any = local_host()
        jobs: Any = self
        then = f"echo went back > {self.told}"
        deadman.arm(
            host, jobs, self.layout, NEW, f"releases/{old}" if old else None, str(self.owner), WITHIN, then
        )

    def run(self) -> int:
        """Until it ends; the seconds that have passed for it."""
        path = f"{self.bin}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", self.script], env={**os.environ, "PATH": path}, capture_output=True, timeout=60
        )
        assert done.stderr == b"", done.stderr
        return int(self.clock.read_text()) - START


@pytest.fixture
def timer(tmp_path: Path) -> Timer:
    return Timer(tmp_path)


def test_it_acts_when_its_time_is_over_and_not_later(timer: Timer) -> None:
    timer.arm(OLD)
    assert WITHIN <= timer.run() <= WITHIN + 2
    assert timer.live == OLD and timer.told.exists()


def test_it_leaves_another_release_alone(timer: Timer) -> None:
    """Somebody has deployed or rolled back since: what is live then is not ours to put back."""
    timer.arm(OLD)
    timer.point(OTHER)
    timer.run()
    assert timer.live == OTHER and not timer.told.exists()


def test_on_a_first_deployment_it_takes_the_link_away(timer: Timer) -> None:
    timer.arm(None)
    assert WITHIN <= timer.run() <= WITHIN + 2
    assert timer.live is None and timer.told.exists()


def test_once_it_is_confirmed_it_does_nothing(timer: Timer) -> None:
    timer.arm(OLD)
    host: Any = local_host()
    jobs: Any = timer
    assert deadman.disarm(host, jobs)
    timer.run()
    assert timer.live == NEW and not timer.told.exists()
    assert deadman.disarm(host, jobs), "it may be said twice"


def test_once_it_has_acted_it_is_too_late_to_confirm(timer: Timer) -> None:
    timer.arm(OLD)
    timer.run()
    host: Any = local_host()
    jobs: Any = timer
    assert not deadman.disarm(host, jobs)


def test_without_the_owners_file_it_does_nothing(timer: Timer) -> None:
    """The deployment has ended and given its lock back."""
    timer.arm(OLD)
    timer.owner.unlink()
    timer.run()
    assert timer.live == NEW and not timer.told.exists()


def test_a_confirmation_at_the_last_moment_wins(timer: Timer) -> None:
    """The deployment decides between the timer's last look at the decision and its own."""
    decision = Path(f"{timer.folder}.decision")
    late = f"read now < {timer.clock}; [ $now -lt {START + WITHIN} ] || mkdir -p {decision}; echo $now"
    timer._program("date", late)
    timer.arm(OLD)
    timer.run()
    assert decision.is_dir()
    assert timer.live == NEW and not timer.told.exists()
