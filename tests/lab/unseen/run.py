"""Faults that are drawn by a seed: `python -m tests.lab.unseen.run`, which `inv lab --unseen SEED` calls.

Writes the score in tests/lab/README.md, from what it has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.lab.unseen.trial import PROMISED, STARTS_WITHIN, Result, draw, explained, tried

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- written by inv lab --unseen: begin -->", "<!-- unseen: end -->"
COLUMNS = {
    "first": "right first", "three": "right among the first three", "unexplained": "`unexplained`",
    "wrong": "wrong", "works": "“works”, though a deployment fails", "crash": "crashes",
}  # fmt: skip
MOST_WRONG, LEAST_FIRST = 0.03, 0.85


def summary(seed: int, results: Sequence[Result]) -> str:
    """The README's table: the score as a whole and by part, and what was not right."""
    made = [r for r in results if r.score != "not made"]
    slowest = max((r.seconds for r in made), default=0.0)
    pairs = [r for r in made if len(r.drawn.kinds) > 1]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, seed {seed}: {len(made)} faults, {len(pairs)} of them two at once. "
        f"Over {PROMISED:g} s, and {STARTS_WITHIN:g} s to start: {sum(r.late for r in made)} (the slowest "
        f"{slowest:.0f} s). Told as failing, "
        f"though a deployment worked: {sum(r.alarm for r in made)}. "
        f"Could not be made here: {len(results) - len(made)}.",
        "", f"| | faults | {' | '.join(COLUMNS.values())} |", f"|---|---|{'---|' * len(COLUMNS)}",
    ]  # fmt: skip
    singles = {r.drawn.kinds[0].part: [] for r in made if r not in pairs}  # type: dict[str, list[Result]]
    for result in made:
        if result not in pairs:
            singles[result.drawn.kinds[0].part].append(result)
    lines += [_row("all", made), *(_row(part, singles[part]) for part in sorted(singles))]
    lines += [_row("two at once", pairs), "", "Not named first:", ""]
    lines += ["| fault | right | found, in their order | a deployment | |", "|---|---|---|---|---|"]
    lines += [_missed(r) for r in made if r.score != "first"]
    return "\n".join(lines)


def _missed(result: Result) -> str:
    named = ", ".join(f"`{id}`" for id in result.named[:4]) or "nothing"
    right = ", ".join(f"`{id}`" for id in sorted(result.drawn.right))
    name = f"{result.drawn.number}: {_cell(result.drawn.name)}"
    return f"| {name} | {right} | {named} | {result.truth or '?'} | {COLUMNS[result.score]} |"


def _row(name: str, results: Sequence[Result]) -> str:
    counts, whole = Counter(r.score for r in results), max(len(results), 1)
    cells = [f"{counts[key]} ({100 * counts[key] / whole:.0f} %)" if counts[key] else "0" for key in COLUMNS]  # type: ignore[index]
    return f"| {name} | {len(results)} | {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")[:160]


def good(results: Sequence[Result]) -> bool:
    """Whether the score is what the project promises."""
    counts, made = Counter(r.score for r in results), [r for r in results if r.score != "not made"]
    return (
        not counts["works"] and not counts["crash"] and not any(r.late for r in made)
        and counts["wrong"] <= MOST_WRONG * len(made) and counts["first"] >= LEAST_FIRST * len(made)
    )  # fmt: skip


def main() -> int:
    """Exit code 1 where the score is less than was promised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--only", type=int, help="this one alone, with all that is known; nothing is written")
    parser.add_argument(
        "--log", type=Path, help="a file for a line of JSON a fault; README.md stays as it is"
    )
    given = parser.parse_args()
    os.environ.pop("SHLVL", None)  # else bash takes itself for a shell in a shell, and reads no start-up file
    os.environ["HOME"] = tempfile.mkdtemp(prefix="switchover-home-")
    if given.only is not None:
        print(json.dumps(explained(tried(draw(given.seed, given.only))), indent=1))
        return 0
    results = []
    for number in range(given.count):
        results.append(tried(draw(given.seed, number)))
        line = json.dumps(explained(results[-1]))
        if given.log:
            with given.log.open("a") as log:
                log.write(f"{line}\n")
        print(f"{results[-1].score:12} {line}", flush=True)
    text = summary(given.seed, results)
    before, _, rest = README.read_text().partition(BEGIN)
    if not given.log:
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    print(text)
    return 0 if good(results) else 1


if __name__ == "__main__":
    sys.exit(main())
