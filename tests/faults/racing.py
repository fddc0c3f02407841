"""Two deployments to one place at the same moment: one is done, the other is told that it is locked."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fabfile import fleet
from tests.faults.harness import IN_PLACE, LOST, Case, Verdict
from tests.faults.helpers import PATIENT
from tests.support.listening import Listener
from tests.support.project import Project, nothing_is_left
from tests.support.sshd import Sshd

REFUSED_WITHIN = 20.0  # seconds, on a slow machine


class Race:
    """Two projects with one deploy_to on one server."""

    def __init__(self, folder: Path, server: Sshd, deploy_to: Path) -> None:
        self.both = [Project(folder / name, server, deploy_to) for name in ("one", "two")]
        for project in self.both:
            project.configure(ssh=PATIENT)

    def run(self, turn: int) -> None:
        """Let them race once. AssertionError where both win, none does, or the state is not the winner's."""
        start, decided = threading.Barrier(2), threading.Event()
        for number, project in enumerate(self.both):
            project.write({"index.html": f"{number} in {turn}\n"})

        def deploy(project: Project) -> fleet.Outcome:
            # Whoever has the lock waits for the other to be refused, however slow this machine is.
            pace = Listener(
                lock=lambda: start.wait(REFUSED_WITHIN), check=lambda: decided.wait(REFUSED_WITHIN)
            )
            try:
                return project.deploy(listener=pace)
            finally:
                decided.set()

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(deploy, self.both))
        assert sorted(outcome.exit_code for outcome in outcomes) == [0, 5], outcomes
        (winner,) = [number for number, outcome in enumerate(outcomes) if outcome.ok]
        place = self.both[0]
        assert place.live == outcomes[winner].hosts[0].release
        assert (place.current / "index.html").read_text() == f"{winner} in {turn}\n"
        nothing_is_left(place)


def race_often(times: int, done: Any) -> None:
    """Race so many times; puts a Verdict for each into the queue `done`."""
    with tempfile.TemporaryDirectory(prefix="switchover-race-") as folder, Sshd() as server:
        race = Race(Path(folder), server, server.new_dir())
        for turn in range(times):
            case = Case("race", turn)
            try:
                race.run(turn)
                done.put(Verdict(case, IN_PLACE))
            except Exception as error:  # noqa: BLE001  (one bad turn must not end the run)
                done.put(Verdict(case, LOST, f"{type(error).__name__}: {error}"))
