"""Try all mistakes, or some: `python -m tests.mutants.run`, which `inv mutants` calls.

A run of all writes the score and the table in README.md beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.mutants import chance, table
from tests.mutants.table import REPOSITORY, Mistake
from tests.mutants.trial import HARMLESS, NOT_NOTICED, NOTICED, UNTRIED, Trial, Verdict

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by inv mutants: begin -->", "<!-- written by inv mutants: end -->"
CHANCE_BEGIN, CHANCE_END = (mark.replace("mutants:", "mutants --random:") for mark in (BEGIN, END))


def score(verdicts: Sequence[Verdict]) -> str:
    """How many were noticed, in a sentence."""
    fates = Counter(v.fate for v in verdicts)
    tried = fates[NOTICED] + fates[NOT_NOTICED]
    said = f"{fates[NOTICED]} of {tried} mistakes were noticed"
    if fates[HARMLESS]:
        said += f"; {fates[HARMLESS]} more change nothing (each with its proof)"
    if fates[UNTRIED]:
        said += f"; {fates[UNTRIED]} could not be tried on this machine"
    return said


def rows(verdicts: Iterable[Verdict]) -> str:
    """The README's table."""
    lines = ["| file | mistake | |", "|---|---|---|"]
    for v in sorted(verdicts, key=lambda v: (v.mistake.file, v.mistake.id)):
        file = v.mistake.file.removeprefix("fabfile/")
        by = v.by.removeprefix("tests/").replace("|", "\\|")
        told = {
            NOTICED: f"`{by}`", NOT_NOTICED: "**not noticed**", HARMLESS: f"changes nothing: {by}",
            UNTRIED: f"*{by}*",
        }[v.fate]  # fmt: skip
        lines.append(f"| {file} | {v.mistake.says.replace('|', chr(92) + '|')} | {told} |")
    return "\n".join(lines)


def write(begin: str, end: str, text: str) -> None:
    """Put `text` where the README wants it."""
    before, _, rest = README.read_text().partition(begin)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def chosen_from(mistakes: list[Mistake], only: Sequence[str], changed: str | None) -> list[Mistake]:
    """Those that are asked for, by id or by file; changed: whose file, or tests, were changed since then."""
    if only:
        unknown = [name for name in only if not any(name in (m.id, m.file) for m in mistakes)]
        if unknown:
            raise SystemExit(f"There is no mistake {', '.join(unknown)}.")
        mistakes = [m for m in mistakes if {m.id, m.file} & set(only)]
    if changed is not None:
        command = ["git", "diff", "--name-only", changed]
        said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        mistakes = [
            m
            for m in mistakes
            if any(name and (name in (m.file, *_files(m))) for name in said.stdout.splitlines())
        ]
    return mistakes


def _files(mistake: Mistake) -> list[str]:
    return [word.partition("::")[0] for word in mistake.arguments]


def main() -> int:
    """Exit code 1 when a mistake was not noticed, or no longer applies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="ids or files, separated by commas")
    parser.add_argument("--changed", metavar="REV", help="those whose file or tests were changed since REV")
    parser.add_argument("--random", type=int, default=0, metavar="K", help="K mistakes by chance instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    started = time.monotonic()
    mistakes = table.load()
    if problems := table.outdated(mistakes):
        print("\n".join(problems))
        return 1
    if given.random:
        wanted = chance.draw(given.seed, given.random)
    else:
        wanted = chosen_from(mistakes, [name for name in given.only.split(",") if name], given.changed)
    with tempfile.TemporaryDirectory(prefix="switchover-home-") as home:
        os.environ["HOME"] = home
        verdicts = Trial(given.jobs, lambda line: print(line, flush=True)).run(wanted)
    took = f"{time.monotonic() - started:.0f} s with --jobs {given.jobs}"
    head = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {took}"
    print(f"\n{score(verdicts)}.")
    if given.random:
        missed = "\n".join(f"- `{v.mistake.id}`" for v in verdicts if v.fate == NOT_NOTICED)
        said = f"{head}, seed {given.seed}: {score(verdicts)}."
        write(CHANCE_BEGIN, CHANCE_END, said + (f" Not noticed:\n\n{missed}" if missed else ""))
        return 0
    if len(wanted) == len(mistakes):
        write(BEGIN, END, f"{head}: **{score(verdicts)}.**\n\n{rows(verdicts)}")
    return 1 if any(v.fate == NOT_NOTICED for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
