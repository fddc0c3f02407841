"""Nobody who reads what is live ever finds it missing, or two releases mixed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Site
from tests.support.sshd import Sshd
from tests.support.trees import write

FILES = ["a.txt", "b.txt", "deep/er/c.txt"]
DEPLOYMENTS = 50  # by each strategy
ROLLBACK_EVERY = 10

# A process of its own, so that it shares no lock with the deployments. It ends when its stdin does.
READER = """
import json, os, select, sys
current, files = sys.argv[1], sys.argv[2:]
count = {"reads": 0, "gaps": [], "mixed": [], "torn": [], "versions": []}
seen = set()

def read(name, folder=None):
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)

os.nice(5)  # the deployments want some of this machine too
print("reading", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        # As a request does that resolves the link once: all it sees is of one release.
        folder = os.open(current, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = {read(name, folder) for name in files}
        finally:
            os.close(folder)
        # As one that goes by the path each time: each file is whole, and there.
        each = [read(current + "/" + name) for name in files]
        if not os.path.islink(current):
            count["gaps"].append("current is no link")
    except OSError as error:
        count["gaps"].append(str(error))
        continue
    count["reads"] += 1
    if len(found) != 1:
        count["mixed"].append(sorted(map(repr, found)))
    for content in [*found, *each]:
        if not (content.startswith(b"version ") and content.endswith(b"\\n")):
            count["torn"].append(repr(content))
    seen |= found
count["versions"] = sorted(int(content.split()[1]) for content in seen if content.split()[1:])
json.dump(count, sys.stdout)
"""


@contextmanager
def reader(current: Path) -> Iterator[dict[str, Any]]:
    """Read what is live without pause; what was seen is there afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, current, *FILES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        yield seen
        told, _ = process.communicate(timeout=30)
        seen.update(json.loads(told))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("strategy", ["cache", "previous"])
def test_a_reader_never_sees_a_gap_or_a_mixture(
    sshd: Sshd, host_dir: Path, tmp_path: Path, strategy: str
) -> None:
    site = Site(sshd, host_dir / "site", {"strategy": strategy, "keep_releases": 3, "copy": "hardlink"})
    source = tmp_path / "source"

    def deploy(number: int) -> None:
        write(source, {name: f"version {number}\n" for name in FILES})
        site.deploy(source)

    deploy(0)
    with reader(site.deploy_to / "current") as seen:
        for number in range(1, DEPLOYMENTS + 1):
            deploy(number)
            if number % ROLLBACK_EVERY == 0:
                site.rollback()
                assert (site.current / "a.txt").read_text() == f"version {number - 1}\n"
    assert seen["gaps"] == []
    assert seen["mixed"] == []
    assert seen["torn"] == []
    assert seen["reads"] > 500
    # It did look while versions came and went, not only before and after.
    assert len(seen["versions"]) > DEPLOYMENTS // 2
