"""All rows of the matrix: `python -m tests.hosts.run`, by `inv hosts`. Writes docs/where-it-works.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.support.host_matrix import Row, round_on, rows

PAGE = Path(__file__).parents[2] / "docs" / "where-it-works.md"
BEGIN, END = "<!-- written by inv hosts: begin -->", "<!-- end -->"
SOON = 3.0  # seconds for a refusal, with what it takes to start Python's modules


def tried(number: int, seed: int, pairs: int) -> tuple[str, bool, str, float]:
    """One row: its name, whether it is as it should be, what to say of it, seconds."""
    row: Row = rows(seed, pairs)[number]
    os.environ["HOME"] = tempfile.mkdtemp(prefix="switchover-home-")
    os.environ.pop("SHLVL", None)  # else bash takes itself for a shell in a shell, and reads no start-up file
    started = time.monotonic()
    try:
        with row.make() as place, tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            seen = round_on(place, Path(folder) / "source")
            place.close()
    except Exception as error:  # noqa: BLE001  (told in the table)
        return row.name, False, f"**{type(error).__name__}**: {str(error)[:300]}", time.monotonic() - started
    took = time.monotonic() - started
    right = bool(seen.refused) != row.works and row.because in seen.refused
    said = (
        f"refused: {seen.refused}" if seen.refused else "works" + "".join(f"; note: {n}" for n in seen.notes)
    )
    return row.name, right, " ".join(said.split())[:400].replace("|", "\\|"), took


def main() -> int:
    """Exit code 1 where a row is not as it should be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    count = len(rows(given.seed, given.pairs))
    with ProcessPoolExecutor(given.jobs) as pool:
        found = list(pool.map(tried, range(count), [given.seed] * count, [given.pairs] * count))
    good = sum(right for _, right, _, _ in found)
    lines = [f"{datetime.now(UTC):%Y-%m-%d}, seed {given.seed}: {good} of {count} as they should be.", ""]
    lines += ["| host | | what came of it | seconds |", "|---|---|---|---|"]
    lines += [f"| {name} | {'✓' if ok else '✗'} | {said} | {took:.1f} |" for name, ok, said, took in found]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}")
    for name, ok, said, _ in found:
        if not ok:
            print(f"✗ {name}: {said}")
    print(f"{good} of {count}")
    return 0 if good == count else 1


if __name__ == "__main__":
    sys.exit(main())
