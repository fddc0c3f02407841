"""The dead man's switch by a clock that the test turns: when it acts, and when it must not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fabfile.on_host import went_back
from fabfile.on_host.layout import Layout
from fabfile.on_host.went_back import WentBack
from fabfile.session import deadman
from tests.support.local import local_host

pytestmark = pytest.mark.usefixtures("each_shell")

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
        self.place = base / "place"
        self.place.mkdir()
        (self.place / "account").write_text("export OF_THE_ACCOUNT=1\n")
        self.bin.mkdir()
        # While hooks run, which know nothing of this clock, a second of it takes a tenth of one.
        turn = f"read now < {self.clock}; echo $((now + ${{1%%.*}})) > {self.clock}"
        self._program("sleep", f"[ ! -f hook ] || {shutil.which('sleep')} 0.1; {turn}")
        as_said = f'exec {shutil.which("date")} -u -d "@$(cat {self.clock})" "$2"'
        self._program("date", f'[ "$1" = -u ] && {as_said}; cat {self.clock}')
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

    def arm(self, old: str | None, *hooks: str, limit: int = 50) -> None:
        host: Any = local_host()
        jobs: Any = self
        record = f"echo went back > {self.told}"
        target = f"releases/{old}" if old else None
        timer = deadman.Timer(NEW, target, str(self.owner), WITHIN, record, hooks, limit)
        deadman.arm(host, jobs, self.layout, timer)

    @property
    def said(self) -> WentBack:
        """What it has written down."""
        return WentBack.loads(Path(went_back.file(self.layout)).read_text().rstrip("\n"))

    def run(self) -> int:
        """Until it ends; the seconds that have passed for it."""
        environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", self.script], cwd=self.place, env=environment, capture_output=True, timeout=60
        )
        assert done.stderr == b"" or (self.place / "hook").exists(), done.stderr
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


def test_the_services_take_up_what_is_live_again(timer: Timer) -> None:
    """Each hook in its order, with the account's environment, and what it prints decides nothing."""
    seen = timer.place / "seen"
    first = f"echo one $OF_THE_ACCOUNT >> {seen}; echo ended; printf '%s\\n' \"it's\" >> {seen}"
    timer.arm(OLD, first, f"echo two >> {seen}")
    timer.run()
    assert seen.read_text() == "one 1\nit's\ntwo\n"
    said = timer.said
    assert (said.left, said.hooks, said.number) == (NEW, "ok", 2)
    assert said.time == "2001-09-09T01:47:10Z" and "its after_switch hooks have run" in str(said)


@pytest.mark.parametrize(
    ("hook", "limit"),
    [("exit 3", 50), ("( odd", 50), ("while :; do :; done", 2)],
    ids=["fails", "no sh", "hangs"],
)
def test_a_hook_that_does_not_end_well(timer: Timer, hook: str, limit: int) -> None:
    """It is written down, the next one is not run, and the link is back."""
    timer.arm(OLD, ":", hook, "touch third", limit=limit)
    timer.run()
    assert timer.live == OLD and timer.told.exists()
    assert (timer.said.hooks, timer.said.number) == ("failed", 2)
    assert not (timer.place / "third").exists()
    assert "after_switch hook 2 failed" in str(timer.said)


def test_without_hooks_it_says_when_it_acted(timer: Timer) -> None:
    timer.arm(OLD)
    timer.run()
    assert timer.said == WentBack(timer.said.time, NEW, "none", 0)
    assert stat.S_IMODE(Path(went_back.file(timer.layout)).stat().st_mode) == 0o600


def test_what_it_writes_down_goes_through_no_link(timer: Timer, tmp_path: Path) -> None:
    """A link to a folder, where mv would put it in; and one in the place of the fresh file."""
    folder, canary = tmp_path / "folder", tmp_path / "canary"
    folder.mkdir()
    canary.write_text("theirs")
    report = Path(went_back.file(timer.layout))
    report.symlink_to(folder)
    report.with_name(f"{report.name}.new").symlink_to(canary)
    timer.arm(OLD)
    timer.run()
    assert timer.said.hooks == "none" and not report.is_symlink()
    assert not list(folder.iterdir()) and canary.read_text() == "theirs"
