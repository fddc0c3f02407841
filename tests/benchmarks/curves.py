"""How the time of a deployment grows: with files, bytes, the share that changed, and the round trip."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.host import host
from tests.benchmarks.link import Link
from tests.benchmarks.rivals import Rsync, Switchover
from tests.benchmarks.sites import Site, settle

FILES, SIZE, SHARE, RTT = 2690, 87 << 20, 0.01, 0.05
WARM = 3  # deployments before there is one to recycle


@dataclass
class Curve:
    """One panel: x, and the seconds of ours and of rsync + ssh."""

    title: str
    unit: str
    log: bool
    x: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)


def measure(home: Callable[[str], Path], rounds: int) -> list[Curve]:
    """All four, of later deployments with 1 % changed at 50 ms where that is not what varies."""
    files = Curve("files (32 KiB each)", "files", True)
    for count in (100, 1000, 10_000):
        _point(files, count, home, rounds, files=count, size=count << 15)
    size = Curve("bytes (1,000 files)", "MB", True)
    for megabytes in (1, 30, 300):
        _point(size, megabytes, home, rounds, files=1000, size=megabytes * 10**6)
    share = Curve("share of files changed", "%", False)
    for percent in (0, 10, 100):
        _point(share, percent, home, rounds, share=percent / 100)
    rtt = Curve("round trip", "ms", False)
    for milliseconds in (0, 50, 200):
        _point(rtt, milliseconds, home, rounds, rtt=milliseconds / 1000)
    return [files, size, share, rtt]


def _point(
    curve: Curve, x: float, home: Callable[[str], Path], rounds: int, *,
    files: int = FILES, size: int = SIZE, share: float = SHARE, rtt: float = RTT,
) -> None:  # fmt: skip
    folder = home("site")
    with host() as server, Link(server.port, rtt / 2) as link:
        site = Site(folder, files, size)
        ours = Switchover(server, link.port, folder, home("ours"))
        theirs = Rsync(server, link.port, folder, home("rsync"))
        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(WARM + rounds):
            site.change(int(files * share))
            settle()
            took = ours.deploy(), theirs.deploy()
            theirs.tidy()
            if turn >= WARM:
                for runs, one in zip(seconds, took, strict=True):
                    runs.append(one)
    shutil.rmtree(folder)
    curve.x.append(x)
    curve.ours.append(statistics.median(seconds[0]))
    curve.theirs.append(statistics.median(seconds[1]))
    print(
        f"{curve.title}: {x:g} {curve.unit}: {curve.ours[-1]:.2f} s, rsync + ssh {curve.theirs[-1]:.2f} s",
        flush=True,
    )


def draw(curves: list[Curve], path: Path) -> None:
    """Four panels in one SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "switchover", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for curve, panel in zip(curves, panels.flat, strict=True):
        for name, seconds, colour, style in (
            ("rsync + ssh", curve.theirs, "#8c8c8c", "--"), ("Switchover", curve.ours, "#1f6feb", "-"),
        ):  # fmt: skip
            panel.plot(curve.x, seconds, style, color=colour, marker="o", markersize=4, label=name)
        if curve.log:
            panel.set_xscale("log")
        panel.set_ylim(bottom=0)
        panel.set_title(curve.title, loc="left")
        panel.set_xlabel(curve.unit)
        panel.set_ylabel("seconds")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels.flat[0].legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
