"""All faults, or a sample of them: `python -m tests.faults.run`, which `inv faults` calls.

Writes the table in README.md beside it, from what it has seen.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Any

from tests.faults.harness import IN_PLACE, LOST, NOT_PROVOKED, RE_RUN, Bench, Case, Verdict
from tests.faults.racing import race_often

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by inv faults: begin -->", "<!-- end -->"
STRATEGIES = ("cache", "previous")
TRANSFERS = ("stream", "rsync", "sftp")
STEPS = 13  # that a deployment of the harness has: connect to unlock
RACES = 200
MADE_PACKETS = (
    20  # of each direction, at which a connection that is being made is cut; a login takes about 10
)
MADE_AFTER = ("", "lock", "upload", "copy", "switch", "health", "unlock")
PER_CUT = 140  # packets at which each kind of deployment is cut, spread evenly

SAYS = {
    "reset": "the connection is reset at the k-th packet",
    "silence": "the connection falls silent at the k-th packet",
    "made-reset": "a connection, the first or a later one, is reset at the k-th packet while it is made",
    "made-close": "it is closed there",
    "made-silence": "it falls silent there",
    "kill-client": "the client is killed (SIGKILL) in each step",
    "kill-sessions": "all sessions of sshd are killed in each step",
    "stop-sessions": "they are stopped for longer than the keepalive window, and wake up again",
    "race": "two deployments to one place begin at the same moment (survived: one wins, the other exits 5)",
    "reboot": "all processes of ours on the host are killed in each step, jobs too",
}


def cases(packets: dict[tuple[str, str], int], share: int = 1) -> list[Case]:
    """All cases, or one in `share` of them: always the same ones."""
    found = []
    for (strategy, transfer), total in packets.items():
        for number in range(PER_CUT):
            at = 1 + number * (total - 1) // PER_CUT
            found += [Case(how, at, strategy, transfer) for how in ("reset", "silence")]
    for fault, lates in (
        ("kill-client", (0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08)),
        ("kill-sessions", (0, 0.005, 0.01, 0.02, 0.03, 0.05)),
        ("stop-sessions", (0, 0.01, 0.03, 0.05)),
        ("reboot", (0, 0.005, 0.01, 0.02, 0.03, 0.05)),
    ):
        for step in range(1, STEPS + 1):
            for strategy in STRATEGIES:
                found += [Case(fault, step, strategy, "stream", late) for late in lates]
    found += made()
    return found if share == 1 else random.Random(share).sample(found, len(found) // share)


def made(seed: int = 1) -> list[Case]:
    """Connections that die while they are made, at each of their first packets, at each of these steps; the
    seed draws what else a case has.
    """
    draw = random.Random(seed)
    found = []
    for step in MADE_AFTER:
        for at in range(1, MADE_PACKETS + 1):
            for way in ("in", "out"):
                for how in ("reset", "close", "silence"):
                    late = draw.choice((0, 0, 0.01, 0.03, 0.06)) if step else 0
                    found.append(
                        Case(
                            f"made-{how}", at, draw.choice(STRATEGIES), draw.choice(TRANSFERS), late, step,
                            way, draw.choice((1, 1, 1, 2)), draw.random() < 0.3,
                        )
                    )  # fmt: skip
    return found


def measure() -> dict[tuple[str, str], int]:
    """How many packets each kind of deployment takes without a fault."""
    with Bench() as bench:
        return {(s, t): bench.packets(s, t) for s in STRATEGIES for t in TRANSFERS}


def _work(todo: Any, done: Any) -> None:
    with Bench() as bench:
        while True:
            try:
                case = todo.get(timeout=1)
            except Empty:
                return
            try:
                done.put(bench.judge(case))
            except Exception as error:  # noqa: BLE001  (one broken case must not end the run)
                done.put(Verdict(case, LOST, f"the harness failed: {type(error).__name__}: {error}"))


def run(wanted: list[Case], workers: int, races: int) -> list[Verdict]:
    """Run them all, `workers` at a time, each with an sshd of its own; beside them so many races."""
    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    for case in wanted:
        todo.put(case)
    processes = [context.Process(target=_work, args=(todo, done)) for _ in range(workers)]
    processes.append(context.Process(target=race_often, args=(races, done)))
    total = len(wanted) + races
    for process in processes:
        process.start()
    verdicts: list[Verdict] = []
    while len(verdicts) < total:
        verdict = done.get(timeout=600)
        verdicts.append(verdict)
        told_of = verdict.fate == LOST or (verdict.fate == RE_RUN and verdict.case.strike)
        if told_of or len(verdicts) % 50 == 0:
            told = f"{verdict.case}: {verdict.fate} {verdict.why}{verdict.ended}"
            print(f"{len(verdicts)}/{total}  {told}", flush=True)
    for process in processes:
        process.join(60)
    return verdicts


def table(verdicts: list[Verdict]) -> str:
    """The README's table."""
    lines = [
        "| fault | tried | survived in place | survived by re-run | lost |",
        "|---|---:|---:|---:|---:|",
    ]
    tried = [v for v in verdicts if v.fate != NOT_PROVOKED]
    for fault, says in SAYS.items():
        fates = Counter(v.fate for v in tried if v.case.fault == fault)
        if fates:
            lines.append(
                f"| {says} | {fates.total()} | {fates[IN_PLACE]} | {fates[RE_RUN]} | {fates[LOST]} |"
            )
    fates = Counter(v.fate for v in tried)
    lines.append(f"| **all** | **{len(tried)}** | {fates[IN_PLACE]} | {fates[RE_RUN]} | **{fates[LOST]}** |")
    idle = len(verdicts) - len(tried)
    if idle:
        lines.append(f"\n{idle} more came to an end before their fault could strike, and do not count.")
    return "\n".join(lines)


def write(verdicts: list[Verdict], seconds: float) -> None:
    """Put the table where the README wants it."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0]
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    head = (
        f"{when}, {os.cpu_count()} cores, Python {platform.python_version()}, {ssh}, "
        f"{seconds / 60:.0f} minutes:"
    )
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{head}\n\n{table(verdicts)}\n{END}{after}")


def main() -> int:
    """Exit code 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help="all of them (about an hour), and write the README's table"
    )
    parser.add_argument("--share", type=int, default=40, help="else every N-th")
    parser.add_argument("--only", help="faults whose name begins so")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="switchover-home-") as home:
        os.environ["HOME"] = home
        wanted = cases(measure(), 1 if chosen.all else chosen.share)
        races = RACES if chosen.all else RACES // chosen.share
        if chosen.only:
            wanted, races = [case for case in wanted if case.fault.startswith(chosen.only)], 0
        verdicts = run(wanted, chosen.workers, races)
    print(table(verdicts))
    if chosen.all and not chosen.only:
        write(verdicts, time.monotonic() - started)
    return 1 if any(v.fate == LOST for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
