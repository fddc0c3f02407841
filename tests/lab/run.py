"""All faults and all healthy hosts: `python -m tests.lab.run`, which `inv lab` calls.

Writes the confusion matrix in README.md beside it, from what it has seen.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tests.lab import sshd10
from tests.lab.faults import CONTROLS, FAULTS
from tests.lab.judge import Verdict, alarms, judge
from tests.support.examined import ExaminedHost
from tests.support.proxy import Proxy
from tests.support.sshd import Sshd

T = TypeVar("T")
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by inv lab: begin -->", "<!-- end -->"


def table(verdicts: Iterable[Verdict], missing: Iterable[str], healthy: Mapping[str, list[str] | str]) -> str:
    """The README's tables."""
    lines = [
        "| fault made | finding expected | found, in their order | by its own advice | |",
        "|---|---|---|---|---|",
    ]
    for v in verdicts:
        mended = {None: "can't be tried here", True: "mended", False: "**not mended**"}[v.mended]
        named = ", ".join(f"`{id}`" for id in v.named) or "nothing"
        lines.append(f"| {v.fault} | `{v.expected}` | {named} | {mended} | {'✓' if v.right else '**✗**'} |")
    lines += [f"| {name} | | not made | | |" for name in missing]
    lines += ["", "| healthy host | false alarms |", "|---|---|"]
    lines += [
        f"| {name} | {found if isinstance(found, str) else ', '.join(found) or 'none'} |"
        for name, found in healthy.items()
    ]
    return "\n".join(lines)


def seconds_at_50_ms() -> float:
    """How long a default run takes on a healthy host with a site, 50 ms of round trip away."""
    with Sshd() as server, Proxy(server.port, delay=0.025) as proxy:
        place = ExaminedHost(server, port=proxy.port, deploy_to=server.new_dir())
        started = time.monotonic()
        place.examine()
        place.close()
        return time.monotonic() - started


def _made(what: Callable[[], T]) -> T | str:
    """What came of it, or why it could not be made here: one that can't does not end the run."""
    # Else bash takes itself for a shell in a shell, and reads no start-up file.
    os.environ.pop("SHLVL", None)
    with tempfile.TemporaryDirectory(prefix="switchover-home-") as home:
        os.environ["HOME"] = home
        try:
            return what()
        except Exception as error:  # noqa: BLE001  (told in the table)
            return f"{type(error).__name__}: {error}"[:300]


def _healthy(name: str) -> tuple[str, list[str] | str]:
    found = _made(lambda: [finding["id"] for finding in alarms(name)])
    print(found if isinstance(found, str) else f"ALARM {found}" if found else "healthy", name, flush=True)
    return name, found


def _named(name: str) -> Verdict | str:
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    found = (fault.missing and f"needs {fault.missing}") or _made(lambda: judge(fault))
    right = not isinstance(found, str) and found.right
    print("right" if right else f"WRONG {found}", name, flush=True)
    return found


def main() -> int:
    """Exit code 1 when a fault was not named right, or a healthy host raised an alarm."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="faults and healthy hosts with this regular expression in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    given = parser.parse_args()
    sshd10.make_root()
    faults = _chosen([fault.name for fault in FAULTS], given.only)
    with ProcessPoolExecutor(given.jobs) as pool:
        healthy = dict(pool.map(_healthy, _chosen(CONTROLS, given.only)))
        found = dict(zip(faults, pool.map(_named, faults), strict=True))
    if given.only:
        return 0
    verdicts = [verdict for verdict in found.values() if not isinstance(verdict, str)]
    missing = [f"{name} ({why})" for name, why in found.items() if isinstance(why, str)]
    said = (
        f"{sum(v.right for v in verdicts)} of {len(verdicts)} faults named right; a default run "
        f"on a healthy host at 50 ms takes {seconds_at_50_ms():.1f} s."
    )
    _write(table(verdicts, missing, healthy), said)
    return (
        0
        if all(v.right for v in verdicts)
        and not any(isinstance(found, list) and found for found in healthy.values())
        else 1
    )


def _chosen(names: Iterable[str], only: str | None) -> list[str]:
    return [name for name in names if not only or re.search(only, name)]


def _write(tables: str, said: str) -> None:
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0]
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    head = f"{when}, Python {platform.python_version()}, {ssh}: {said}"
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{head}\n\n{tables}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
