"""Attacks drawn from seeds: `python -m tests.attacks.run`, which `inv attacks` calls.

With --all the table in README.md beside it is written from what was seen.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.attacks.git_trees import judge_git
from tests.attacks.judge import judge
from tests.attacks.verdict import DONE, OWN, REFUSED, WRONG, Verdict
from tests.support.sshd import Sshd

SAMPLE, ALL = 24, 1000  # on hosts, and as many repositories
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by inv attacks: begin -->", "<!-- end -->"
KINDS = {
    "links planted in a site": lambda v: v.label != "git" and "swapped" not in v.label,
    "directories swapped for links meanwhile, by another account": lambda v: v.label.endswith("by other"),
    "directories swapped for links meanwhile, by the login account": lambda v: v.label.endswith("by same"),
    "hostile git repositories": lambda v: v.label == "git",
}


def _work(seeds: list[int], done: Any) -> None:
    with Sshd() as server:
        for seed in seeds:
            done.put(judge(server, seed))
            done.put(judge_git(seed))


def run(seeds: list[int], workers: int) -> list[Verdict]:
    """Judge them all, in so many processes, each with an sshd of its own."""
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    processes = [context.Process(target=_work, args=(seeds[n::workers], done)) for n in range(workers)]
    for process in processes:
        process.start()
    verdicts: list[Verdict] = []
    while len(verdicts) < 2 * len(seeds):
        verdict = done.get(timeout=300)
        verdicts.append(verdict)
        if verdict.fate in (WRONG, OWN):
            print(
                f"seed {verdict.seed}, {verdict.label}: {verdict.fate}",
                *verdict.why[:6],
                sep="\n    ",
                flush=True,
            )
        if len(verdicts) % 100 == 0:
            print(f"{len(verdicts)} of {2 * len(seeds)}", flush=True)
    for process in processes:
        process.join(60)
    return verdicts


def table(verdicts: list[Verdict]) -> str:
    """The README's table."""
    fates = (DONE, REFUSED, OWN, WRONG)
    lines = [f"| attack | tried | {' | '.join(fates)} |", f"|---|{'---:|' * (len(fates) + 1)}"]
    for says, belongs in KINDS.items():
        counted = Counter(verdict.fate for verdict in verdicts if belongs(verdict))
        lines.append(f"| {says} | {counted.total()} | {' | '.join(str(counted[fate]) for fate in fates)} |")
    return "\n".join(lines)


def _write(verdicts: list[Verdict], first: int, seconds: float) -> None:
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    head = f"{when}, seeds from {first} on, Python {platform.python_version()}, {seconds / 60:.0f} minutes:"
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{head}\n\n{table(verdicts)}\n{END}{after}")


def main() -> int:
    """Exit code 1 when any attack did harm, or had an end that is not ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help=f"{ALL} of each kind, and write the README's table"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=SAMPLE, help="else so many of each kind")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", action="store_true", help="say what came of each")
    chosen = parser.parse_args()
    started = time.monotonic()
    count = ALL if chosen.all else chosen.count
    with tempfile.TemporaryDirectory(prefix="switchover-home-") as home:
        os.environ["HOME"] = home
        verdicts = run(list(range(chosen.seed, chosen.seed + count)), chosen.workers)
    if chosen.verbose:
        for verdict in sorted(verdicts, key=lambda v: (v.seed, v.label)):
            print(verdict.seed, verdict.label, verdict.seconds, verdict.fate, *verdict.why)
    print(table(verdicts))
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s")
    if chosen.all:
        _write(verdicts, chosen.seed, seconds)
    return 1 if any(verdict.fate == WRONG for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
