"""Try mistakes: each in a copy of the tree, by the tests that must notice it, several at a time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.table import REPOSITORY, Mistake

LEAST = 60.0  # seconds that the tests of a mistake get, however fast they are without it
FACTOR = 6  # times as long as without the mistake, then they hang
GRACE = 10.0  # seconds in which an ended pytest stops its servers

NOTICED, NOT_NOTICED, HARMLESS = "noticed", "not noticed", "changes nothing"
UNTRIED = "can't be tried here"  # its tests are skipped on this machine

Selection = tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What became of a mistake. by: the test that noticed it, or why there is none."""

    mistake: Mistake
    fate: str
    by: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Tests:
    """One run of pytest. status: its exit code, None where it did not end in time."""

    status: int | None
    passed: int
    first: str  # the first test that failed
    seconds: float
    said: str


class Tree:
    """A copy of the repository, in which one mistake at a time is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.turn = 0
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY, capture_output=True, check=True, timeout=30,
        ).stdout.decode("utf-8", "surrogateescape").split("\0")  # fmt: skip
        for name in filter(None, names):
            if (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)

    @contextlib.contextmanager
    def with_mistake(self, mistake: Mistake) -> Iterator[None]:
        """Make it, and unmake it at the end."""
        path = self.folder / mistake.file
        right = path.read_text()
        self._write(path, mistake.applied(right))
        try:
            yield
        finally:
            self._write(path, right)

    def _write(self, path: Path, text: str) -> None:
        # Python takes bytecode for that of a file with the same size and time.
        self.turn += 1
        path.write_text(text)
        when = time.time() + 2 * self.turn
        os.utime(path, (when, when))

    def test(self, arguments: Sequence[str], limit: float) -> Tests:
        """Run pytest with these arguments, for `limit` seconds at the longest."""
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", *arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            said, status = process.communicate(timeout=limit)[0], process.returncode
        except subprocess.TimeoutExpired:
            said, status = _ended(process), None
        passed = re.search(r"(\d+) passed", said)
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.M)
        return Tests(
            status,
            int(passed[1]) if passed else 0,
            failed[1] if failed else "",
            time.monotonic() - started,
            said[-3000:],
        )


def _ended(process: subprocess.Popen[str]) -> str:
    """End pytest as Ctrl-C does, so that it stops its servers; what it printed."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE)[0]
    return ""


@dataclass
class Trial:
    """Copies of the tree to try mistakes in, and what the tests do without any mistake."""

    jobs: int = 2
    tell: Callable[[str], None] = print
    before: dict[Selection, Tests] = field(default_factory=dict)

    def run(self, mistakes: Sequence[Mistake]) -> list[Verdict]:
        """A verdict on each, in their order. Raises RuntimeError where tests fail without any mistake."""
        tried = [m for m in mistakes if not m.harmless]
        with tempfile.TemporaryDirectory(prefix="switchover-mutants-") as base:
            trees: SimpleQueue[Tree] = SimpleQueue()
            for number in range(self.jobs):
                folder = Path(base, str(number))
                folder.mkdir()
                folder.chmod(0o755)
                trees.put(Tree(folder))
            Path(base).chmod(0o755)  # tests run things as another account
            with ThreadPoolExecutor(self.jobs) as pool:
                self._look_without(list(dict.fromkeys(m.tests for m in tried)), trees, pool)
                verdicts = pool.map(lambda m: self._judge(m, trees), tried)
                found = {verdict.mistake.id: verdict for verdict in verdicts}
        return [found.get(m.id) or Verdict(m, HARMLESS, m.harmless) for m in mistakes]

    def _look_without(
        self, selections: list[Selection], trees: SimpleQueue[Tree], pool: ThreadPoolExecutor
    ) -> None:
        def look(selection: Selection) -> Tests:
            with _one_of(trees) as tree:
                found = tree.test(Mistake("", "", "", "", "", selection).arguments, 10 * LEAST)
                if found.status != 0:  # once more: a machine under load is no mistake
                    found = tree.test(Mistake("", "", "", "", "", selection).arguments, 10 * LEAST)
            self.tell(f"without a mistake  {found.seconds:5.1f} s  {found.passed:3} pass  {selection[0]}")
            return found

        self.before.update(zip(selections, pool.map(look, selections), strict=True))
        red = [f"{' '.join(s)}:\n{t.said}" for s, t in self.before.items() if t.status != 0]
        if red:
            raise RuntimeError("tests fail without any mistake:\n" + "\n".join(red))

    def _judge(self, mistake: Mistake, trees: SimpleQueue[Tree]) -> Verdict:
        before = self.before[mistake.tests]
        if not before.passed:
            return Verdict(mistake, UNTRIED, "its tests are skipped on this machine")
        with _one_of(trees) as tree, tree.with_mistake(mistake):
            found = tree.test(mistake.arguments, max(LEAST, FACTOR * before.seconds))
        verdict = _verdict(mistake, found)
        self.tell(f"{verdict.fate:<11}  {found.seconds:5.1f} s  {mistake.id}  {verdict.by}")
        return verdict


@contextlib.contextmanager
def _one_of(trees: SimpleQueue[Tree]) -> Iterator[Tree]:
    tree = trees.get()
    try:
        yield tree
    finally:
        trees.put(tree)


def _verdict(mistake: Mistake, found: Tests) -> Verdict:
    if found.status is None:
        return Verdict(mistake, NOTICED, "the tests hang", found.seconds)
    if found.status in (1, 2):  # a test failed, or what is imported did
        return Verdict(mistake, NOTICED, found.first or "while importing", found.seconds)
    if found.status == 0:
        return Verdict(mistake, NOT_NOTICED, "", found.seconds)
    raise RuntimeError(f"{mistake.id}: pytest ended with {found.status}:\n{found.said}")
