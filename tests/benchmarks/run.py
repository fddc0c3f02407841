"""Measure against what people would use instead, and write docs/performance.md: `inv bench`.

Each pair is measured in turns (A B A B …), on a real sshd on this machine; the medians and their ratio count.
All that is timed are whole processes as a person starts them, unless a row says otherwise.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import curves
from tests.benchmarks.host import DISK, host
from tests.benchmarks.link import Link
from tests.benchmarks.rivals import FAB, REPOSITORY, Capistrano, Rsync, Switchover, has_capistrano, timed
from tests.benchmarks.sites import Site, settle
from tests.support.sshd import Sshd

RTT = 0.05  # seconds, there and back
FAR = 0.4  # the same where round trips are counted: longer than a host takes for an answer
FILES, SIZE = 2690, 87 << 20
MANY = 100_000

Time = Callable[[], float]


@dataclass
class Pair:
    """Ours and theirs, measured in turns. goal: the ratio not to be exceeded; unit: of the figures."""

    what: str
    other: str
    goal: float | None
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    unit: str = "s"
    more_is_better: bool = False

    @property
    def ratio(self) -> float:
        """The ratio of the medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def met(self) -> bool:
        """Whether the goal was met."""
        return self.goal is None or (
            self.ratio >= self.goal if self.more_is_better else self.ratio <= self.goal
        )

    def row(self) -> str:
        """A row of the table."""
        bound = "" if self.goal is None else f"{'≥' if self.more_is_better else '≤'} {self.goal:g}"
        ours, theirs = (f"{statistics.median(runs):.3g} {self.unit}" for runs in (self.ours, self.theirs))
        verdict = "" if self.goal is None else ("met" if self.met else "**missed**")
        return f"| {self.what} | {ours} | {self.other} | {theirs} | {self.ratio:.2f} | {bound} | {verdict} |"


class Bench:
    """The measurements of one run."""

    def __init__(self, rounds: int, folder: Path) -> None:
        self.rounds = rounds
        self.folder = folder
        self.pairs: list[Pair] = []
        self.notes: list[str] = []

    def pair(
        self,
        what: str,
        ours: Time,
        other: str,
        theirs: Time,
        goal: float | None,
        *,
        before: Callable[[], object] = lambda: None,
        rounds: int = 0,
        unit: str = "s",
        more_is_better: bool = False,
    ) -> Pair:
        """Measure in turns; `before` each of them, outside the time."""
        pair = Pair(what, other, goal, unit=unit, more_is_better=more_is_better)
        for _ in range(rounds or self.rounds):
            for time_one, runs in ((ours, pair.ours), (theirs, pair.theirs)):
                before()
                runs.append(time_one())
        self.pairs.append(pair)
        print(pair.row(), flush=True)
        return pair

    def note(self, text: str) -> None:
        """A figure beside the table."""
        self.notes.append(text)
        print(f"- {text}", flush=True)

    def home(self, name: str) -> Path:
        """A fresh folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    @contextmanager
    def site(self, files: int, size: int) -> Iterator[Site]:
        """A site that has come to rest."""
        folder = self.home("site")
        site = Site(folder, files, size)
        settle()
        yield site
        shutil.rmtree(folder)


def websites(bench: Bench, rtt: float) -> None:
    """The site of 2,690 files: first and later deployments, and rollback."""
    at = f"{rtt * 1000:.0f} ms" if rtt else "loopback"

    def goal(ratio: float) -> float | None:
        return ratio if rtt else None  # without a way in between it is Python that starts, and little else

    with host() as server, Link(server.port, rtt / 2) as link, bench.site(FILES, SIZE) as site:
        ours = Switchover(server, link.port, site.folder, bench.home("ours"))
        theirs = Rsync(server, link.port, site.folder, bench.home("rsync"))

        def first(who: Switchover | Rsync) -> Time:
            def run() -> float:
                who.afresh()
                return who.deploy()

            return run

        bench.pair(f"first deployment, {at}", first(ours), "rsync + ssh", first(theirs), goal(1.1))
        for _ in range(4):
            ours.deploy()
        pair = (ours.deploy, "rsync + ssh", theirs.deploy, goal(0.6))
        bench.pair(f"nothing changed, {at}", *pair, before=theirs.tidy)
        if rtt:
            _round_trips(bench, server, ours, "nothing changed", ours.deploy, 10)

        def change() -> None:
            theirs.tidy()
            site.change(FILES // 100)
            settle()

        bench.pair(f"1 % changed, {at}", *pair, before=change)
        if rtt:
            change()
            _round_trips(bench, server, ours, "1 % changed", ours.deploy, 10)
        if has_capistrano():
            _capistrano(
                bench,
                site,
                ours,
                Capistrano(server, link.port, site.folder, bench.home("cap")),
                at,
                goal(0.25),
            )
        if rtt:
            ours.deploy()
            _round_trips(bench, server, ours, "rollback", ours.rollback, 6)


def _capistrano(
    bench: Bench, site: Site, ours: Switchover, theirs: Capistrano, at: str, goal: float | None
) -> None:
    theirs.commit()
    theirs.deploy()
    theirs.deploy()
    bench.pair(f"nothing changed, {at}", ours.deploy, "Capistrano", theirs.deploy, goal)

    def change() -> None:
        site.change(FILES // 100)
        theirs.commit()
        settle()

    bench.pair(f"1 % changed, {at}", ours.deploy, "Capistrano", theirs.deploy, goal, before=change)

    def both() -> None:
        ours.deploy()
        theirs.deploy()

    bench.pair(f"rollback, {at}", ours.rollback, "Capistrano", theirs.rollback, goal, before=both)


def _memory(bench: Bench, ours: Switchover, what: str) -> None:
    bench.note(f"peak memory of the client, {what}: {ours.peak_memory() / 1e6:.0f} MB")


def _round_trips(bench: Bench, server: Sshd, ours: Switchover, what: str, command: Time, goal: int) -> None:
    """Counted by a proxy, without those that connecting takes."""
    port = ours.port
    with Link(server.port, FAR / 2) as link:
        ours.port = link.port
        command()
        total = link.round_trips()
    ours.port = port
    bench.note(f"round trips, {what}: {total - CONNECTING} after the connection is up (goal: at most {goal})")


CONNECTING = 3  # round trips until a login with a key is granted: greetings, key exchange, service and key


def starting(bench: Bench) -> None:
    """`fab --list`."""
    bare = bench.home("bare")
    (bare / "fabfile.py").write_text(
        'from fabric import task\n\n\n@task\ndef hello(c):\n    """Say hello."""\n'
    )

    def ours() -> float:
        return timed([str(FAB), "-r", str(REPOSITORY), "--list"], bare).seconds

    def theirs() -> float:
        return timed([str(FAB), "-r", str(bare), "--list"], bare).seconds

    ours(), theirs()
    bench.pair("`fab --list`", ours, "a bare fabfile", theirs, 1.3, rounds=max(bench.rounds, 11))


def one_large_file(bench: Bench) -> None:
    """1 GB in one file, on loopback."""
    size = 1 << 30
    with host() as server, bench.site(1, size) as site:
        ours = Switchover(server, server.port, site.folder, bench.home("ours"))
        theirs = Rsync(server, server.port, site.folder, bench.home("rsync"))

        def upload() -> float:
            ours.afresh()
            ours.deploy()
            return size / 1e6 / ours.phases("upload")

        def rsync() -> float:
            theirs.afresh()
            return size / 1e6 / theirs.upload()

        bench.pair("1 GiB in one file, the upload", upload, "rsync -e ssh", rsync, 0.9,
                   unit="MB/s", more_is_better=True)  # fmt: skip
        ours.afresh()
        _memory(bench, ours, "first upload of 1 GiB in one file")


def many_files(bench: Bench) -> None:
    """100,000 files of 4 KiB."""
    with host() as server, bench.site(MANY, MANY * 4096) as site:
        ours = Switchover(server, server.port, site.folder, bench.home("ours"))
        theirs = Rsync(server, server.port, site.folder, bench.home("rsync"))

        def upload() -> float:
            ours.afresh()
            ours.deploy()
            return MANY / ours.phases("upload")

        def rsync() -> float:
            theirs.afresh()
            return MANY / theirs.upload()

        bench.pair("100,000 files, the first upload", upload, "rsync -e ssh", rsync, 0.9,
                   unit="files/s", more_is_better=True, rounds=min(bench.rounds, 3))  # fmt: skip
        ours.afresh()
        _memory(bench, ours, "first upload of 100,000 files")
        theirs.deploy()
        for _ in range(3):
            ours.deploy()

        def change() -> None:
            theirs.tidy()
            site.change(10)
            settle()

        ten = "100,000 files, 10 changed"
        bench.pair(f"{ten}, loopback", ours.deploy, "rsync + ssh", theirs.deploy, None, before=change)
        with Link(server.port, RTT / 2) as link:
            ours.port = theirs.port = link.port
            far = f"{ten}, {RTT * 1000:.0f} ms"
            bench.pair(far, ours.deploy, "rsync + ssh", theirs.deploy, 0.5, before=change)
        ours.port = server.port
        change()
        _memory(bench, ours, "10 of 100,000 files changed")
        _recycling(bench, server, site)


def _recycling(bench: Bench, server: Sshd, site: Site) -> None:
    """The phases copy and retain, with each mode of copying."""
    modes = {}
    for mode in ("full", "recycle", "hardlink"):
        kind = type(mode, (Switchover,), {"copy": mode, "name": mode})
        modes[mode] = kind(server, server.port, site.folder, bench.home(mode))
        for _ in range(4 if mode == "recycle" else 2):
            modes[mode].deploy()

    def phases(mode: str, *names: str) -> Time:
        def run() -> float:
            modes[mode].deploy()
            used = modes[mode].host["copy"]
            if used != mode:
                raise RuntimeError(f"copy: {mode} was not used but {used}")
            return modes[mode].phases(*names)

        return run

    def change() -> None:
        site.change(10)
        settle()

    both = ("copy", "retain")
    bench.pair("100,000 files, 10 changed: copy + retain, recycled", phases("recycle", *both), "full copy",
               phases("full", *both), 0.15, before=change)  # fmt: skip
    bench.pair("100,000 files, 10 changed: copy, hardlinked", phases("hardlink", "copy"), "full copy",
               phases("full", "copy"), 0.4, before=change)  # fmt: skip
    goal = modes["full"].root / "copy"

    def plain() -> float:
        shutil.rmtree(goal, ignore_errors=True)
        started = time.monotonic()
        subprocess.run(["cp", "-a", str(modes["full"].root / "cache"), str(goal)], check=True)
        return time.monotonic() - started

    bench.pair("100,000 files: copy, full", phases("full", "copy"), "cp -a", plain, None, before=change)


def reflinks(bench: Bench) -> None:
    """On a file system that has them."""
    with host(reflinks=True) as server, bench.site(MANY, MANY * 4096) as site:
        if not (server.root / DISK).is_dir():
            bench.note("reflinks were not measured: that needs root and xfsprogs")
            return
        kind = type("reflink", (Switchover,), {"copy": "reflink", "name": "reflink"})
        ours = kind(server, server.port, site.folder, bench.home("ours"))
        ours.deploy()

        def copy() -> float:
            ours.deploy()
            return float(ours.phases("copy"))

        def plain() -> float:
            goal = server.root / DISK / "plain"
            shutil.rmtree(goal, ignore_errors=True)
            started = time.monotonic()
            subprocess.run(["cp", "-a", "--reflink=always", str(ours.root / "cache"), str(goal)], check=True)
            return time.monotonic() - started

        bench.pair("100,000 files on XFS: copy, reflinked", copy, "cp --reflink", plain, 1.0)


def machine() -> str:
    """What this was measured on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = []
    for words in (["ssh", "-V"], ["rsync", "--version"], ["cap", "--version"]):
        if shutil.which(words[0]):
            done = subprocess.run(words, capture_output=True, text=True)
            versions.append((done.stdout or done.stderr).splitlines()[0].split(",")[0].strip())
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), "
        f"{memory:.0f} GiB, {system}, Linux {platform.release()}, Python {platform.python_version()}, "
        + ", ".join(versions)
    )


PAGE = """# Performance

Written by `inv bench`; {machine}.

Client and server share the machine, over loopback or through a proxy that adds {rtt:.0f} ms of round trip.
The sites lie on an XFS of their own, made afresh (without reflinks, but where they are measured).
Each pair was measured in turns, {rounds} times (tests/benchmarks/run.py);
the figures are medians, and only their ratio means something elsewhere. Every check is on. `rsync + ssh` is
`rsync -a --delete` into a cache and one ssh that copies it and switches; it removes no old release.
The site, where nothing else is said: {files:,} files, {size} MB.

| | Switchover | against | theirs | ratio | goal | |
|---|---|---|---|---|---|---|
{rows}

{notes}

![How the time grows](performance.svg)
"""


def write(bench: Bench) -> None:
    """docs/performance.md, as far as it was measured."""
    page = PAGE.format(
        machine=machine(),
        rtt=RTT * 1000,
        rounds=bench.rounds,
        files=FILES,
        size=SIZE >> 20,
        rows="\n".join(pair.row() for pair in bench.pairs),
        notes="\n".join(f"- {note}" for note in bench.notes),
    )
    folder = REPOSITORY / "docs"
    folder.mkdir(exist_ok=True)
    (folder / "performance.md").write_text(page)


def main() -> None:
    """Run all, or what is named."""
    parts: dict[str, Callable[[Bench], None]] = {
        "list": starting,
        "slow": lambda bench: websites(bench, RTT),
        "fast": lambda bench: websites(bench, 0.0),
        "large": one_large_file,
        "reflinks": reflinks,
        "many": many_files,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each of a pair is measured")
    parser.add_argument("--only", choices=[*parts, "curves"], action="append", help="and write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="switchover-bench-") as folder:
        Path(folder).chmod(0o755)
        bench = Bench(options.rounds, Path(folder))
        for name, part in parts.items():
            if not options.only or name in options.only:
                part(bench)
                if not options.only:
                    write(bench)
        if not options.only or "curves" in options.only:
            found = curves.measure(bench.home, max(1, options.rounds // 2))
            curves.draw(found, REPOSITORY / "docs/performance.svg")
    missed = [pair.what for pair in bench.pairs if not pair.met]
    print(f"missed: {', '.join(missed) or 'nothing'}")
    sys.exit(0)


if __name__ == "__main__":
    main()
