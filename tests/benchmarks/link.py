"""A slow way to a server, in a process of its own so that nobody's clock pays for it.

`python -m tests.benchmarks.link PORT DELAY` says its port, then for each line on stdin how many round trips
there were since the last one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.support.proxy import Proxy

REPOSITORY = Path(__file__).resolve().parents[2]


class Link:
    """The way to a server's port; `port` is its own. delay: seconds one way; 0: there is nothing between."""

    def __init__(self, port: int, delay: float) -> None:
        self._target, self._delay = port, delay
        self.port = port

    def __enter__(self) -> Link:
        words = [sys.executable, "-m", "tests.benchmarks.link", str(self._target), str(self._delay)]
        self._process = subprocess.Popen(
            words, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._delay:
            self.port = self._answer()
        return self

    def round_trips(self) -> int:
        """Since the last time, on the connection that took most."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


if __name__ == "__main__":
    with Proxy(int(sys.argv[1]), delay=float(sys.argv[2])) as proxy:
        print(proxy.port, flush=True)
        for _ in sys.stdin:
            print(proxy.round_trips, flush=True)
            proxy.round_trips = 0
