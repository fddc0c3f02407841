"""The promises of SECURITY.md and their tests: `python -m tests.security`, which `inv security` calls.

A test is tied to a promise by `@pytest.mark.promise("id")`. The run writes the table of docs/security.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs/security.md"
BEGIN, END = "<!-- written by inv security: begin -->", "<!-- written by inv security: end -->"

HOST, ACCOUNT, NETWORK, SOURCE, READER = (
    "a hostile host", "another account on the host", "a hostile network", "a hostile source",
    "whoever reads a report",
)  # fmt: skip

# By id: against whom, and what.
PROMISES = {
    "ids": (HOST, "A record counts only where its id is a release's and its folder's name."),
    "state": (HOST, "Any bytes in place of the state are understood strictly or refused, in bounded size."),
    "answers": (HOST, "Any answer to any question is what it says, or an error of ours."),
    "lock-answer": (HOST, "Nobody goes on without an answer, with our token, that the lock is ours."),
    "floods": (HOST, "A host that says more than anybody can hold fills no memory, and is left soon."),
    "sftp": (HOST, "A mute, lying or endless SFTP server ends nothing but SFTP, within its time."),
    "pids": (HOST, "Only a process with the start time and boot of our job is waited for, or signalled."),
    "damage": (HOST, "Damaged state is told, left alone, and blocks nothing else."),
    "markup": (HOST, "Nothing that comes from a host is interpreted as markup."),
    "terminal": (HOST, "Only text, colours and the movements of our own bars reach the terminal."),
    "hook-words": (HOST, "What a hook prints decides nothing."),
    "closed": (ACCOUNT, "`.switchover/` is closed to other accounts whatever the umask, and never a link."),
    "links": (ACCOUNT, "Nothing is written through a link that stands in the place of a directory."),
    "other-accounts": (ACCOUNT, "Hooks, what they say, and addresses' secrets are in nobody else's sight."),
    "planted": (ACCOUNT, "Links planted anywhere, before or meanwhile, lead to no change outside deploy_to."),
    "in-place": (ACCOUNT, "A file is replaced, never written to: who holds or links the old one keeps it."),
    "shared": (ACCOUNT, "Nothing that users wrote is lost when a path becomes shared."),
    "host-keys": (NETWORK, "A changed host key is refused, and with `strict` an unknown one."),
    "refused": (NETWORK, "What a server has refused is not asked again."),
    "silence": (NETWORK, "A peer that falls silent is noticed in the time that is configured."),
    "pipes": (READER, "What can't be printed decides nothing of what becomes of a deployment."),
    "signals": (READER, "INT, TERM and HUP leave nothing half switched, and the lock free."),
    "cut": (NETWORK, "A cut at any step leaves the old or the new release whole, and is gone on from."),
    "half-script": (NETWORK, "Half a script is never run."),
    "addresses": (SOURCE, "A host's address is no option, no shell and no line of a configuration."),
    "bounds": (SOURCE, "A configuration that is too large, too deep or repeats itself ends with an error."),
    "repositories": (SOURCE, "A git repository, whatever is in it, changes and runs nothing here."),
    "leads-out": (SOURCE, "A link of the source that leads out of it is refused."),
    "anonymous": (READER, "With `--anonymous` neither page nor JSON names users, hosts or machines."),
    "secrets": (READER, "Known forms of secrets are taken out."),
}  # fmt: skip


class Results:
    """A pytest plugin: which tests of each promise have passed."""

    def __init__(self) -> None:
        self.tied: dict[str, str] = {}
        self.passed: dict[str, set[str]] = defaultdict(set)
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("promise"):
                self.tied[f"{item.nodeid}#{mark.args[0]}"] = mark.args[0]

    def pytest_runtest_logreport(self, report: Any) -> None:
        promises = {id for key, id in self.tied.items() if key.startswith(f"{report.nodeid}#")}
        if report.when == "call" and report.passed:
            for promise in promises:
                self.passed[promise].add(report.nodeid.partition("[")[0])
        elif report.failed:
            self.failed.append(report.nodeid)


def table(passed: dict[str, set[str]]) -> str:
    """The page's table."""
    lines = ["| against | promise | tests |", "|---|---|---|"]
    for name, (whom, says) in PROMISES.items():
        tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in sorted(passed[name]))
        lines.append(f"| {whom} | {says} | {tests or '**none**'} |")
    return "\n".join(lines)


def main() -> int:
    """Exit code 1 when a promise has no test that passes, or one of its tests fails."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="switchover-home-") as home:
        os.environ["HOME"] = home
        pytest.main(["-q", "-m", "promise", "tests"], plugins=[results])
    unknown = set(results.tied.values()) - PROMISES.keys()
    empty = [name for name in PROMISES if not results.passed[name]]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results.passed)}\n{END}{after}")
    for said, names in (("no such promise", sorted(unknown)), ("no test passes for", empty)):
        if names:
            print(f"{said}: {', '.join(names)}")
    return 1 if unknown or empty or results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
