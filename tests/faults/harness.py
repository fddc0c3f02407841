"""Break one deployment on purpose, and judge what became of it.

A case: a host with the old release live, one deployment of the new one with one fault in it, and, where
that did not come through by itself, a second deployment without any. Whatever happens, `current` must lead
to the whole old or the whole new release, no reader may ever see anything else, and in the end the new
release is live, nothing is locked and no job runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from fabfile.commands.deployment import Options
from fabfile.events import Event, StepStarted
from fabfile.fleet import Target, deploy
from fabfile.settings import load
from tests.faults.cutter import Cutter, Strike
from tests.support.sshd import Sshd, descendants, detached_from, end_processes

CLIENT_LIMIT = 120  # seconds; a client that takes longer hangs, and that is the worst bug
KEEPALIVE = {"interval": 0.4, "count": 3}

IN_PLACE, RE_RUN, LOST = "survived in place", "survived by re-run", "lost"
NOT_PROVOKED = "not provoked"


@dataclass(frozen=True)
class Case:
    """fault: reset | silence (at packet `at`), kill-client | kill-sessions | stop-sessions | reboot (when
    step number `at` begins, and `late` seconds after that).

    made-reset | made-close | made-silence: `times` connections in a row die while they are made, at their own
    packet `at` of those that go `way`, half of which still arrives with `half`. These are the first ones, or,
    with a `step`, those that follow when the connection was reset `late` seconds after that step began.
    """

    fault: str
    at: int
    strategy: str = "cache"
    transfer: str = "stream"
    late: float = 0.0
    step: str = ""
    way: str = ""
    times: int = 0
    half: bool = False

    def __str__(self) -> str:
        text = f"{self.fault}@{self.at}+{self.late:g} {self.strategy} {self.transfer}"
        if not self.times:
            return text
        where = f"after {self.step}" if self.step else "at first"
        return f"{text}, {self.times} times {where}, {self.way}{', half' if self.half else ''}"

    @property
    def strike(self) -> Strike | None:
        """What the proxy is to do; None: the fault is not the network's."""
        how = self.fault.removeprefix("made-")
        if how not in ("reset", "close", "silence"):
            return None
        return Strike(how, self.at, self.way, self.times, self.half)

    def begins(self, steps: int, step: str) -> bool:
        """Whether it is time for the harness to strike, at this step, which is number `steps`."""
        if self.strike is None:
            return steps == self.at
        return bool(self.step) and step == self.step


@dataclass(frozen=True)
class Verdict:
    """What became of a case; `why` tells what was seen where it was lost."""

    case: Case
    fate: str
    why: str = ""
    reconnects: int = 0
    seconds: float = 0.0
    ended: str = ""  # the error with which the first run ended


class Bench:
    """One sshd and the two versions of a site, used for one case after the other."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="switchover-faults-"))
        self.old, self.new = self.folder / "old", self.folder / "new"
        _write_site(self.old, "old")
        _write_site(self.new, "new")
        self.struck = False
        self.cutter: Cutter | None = None  # of the case at hand
        self.trees = {"old": _tree(self.old), "new": _tree(self.new)}
        self.templates: dict[str, Path] = {}
        self.sshd = Sshd()
        self.web = ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.faults.harness"])

    def __enter__(self) -> Bench:
        self.sshd.__enter__()
        threading.Thread(target=self.web.serve_forever, name="web", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.web.shutdown()
        self.web.server_close()
        self.sshd.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)

    def packets(self, strategy: str, transfer: str) -> int:
        """How many packets an undisturbed deployment of the new site takes."""
        with self._host(strategy) as root, Cutter(self.sshd.port) as cutter:
            said = self._client(root, Case("none", 0, strategy, transfer), cutter.port)
            if not said or not said["ok"]:
                raise RuntimeError(f"the undisturbed deployment failed: {said}")
            return cutter.packets

    def judge(self, case: Case) -> Verdict:
        """Run one case."""
        started = time.monotonic()
        with self._host(case.strategy) as root, Cutter(self.sshd.port) as cutter, _Reader(root) as reader:
            self.struck, self.cutter = False, cutter
            if not case.step:
                cutter.arm(case.strike)
            said = self._client(root, case, cutter.port)
            between = self._live(root)
            if not (cutter.struck if case.strike else self.struck):
                return Verdict(case, NOT_PROVOKED)
            fate = IN_PLACE
            if not (said and said.get("ok")):
                fate = RE_RUN
                again = self._client(root, Case("none", 0, case.strategy, case.transfer), self.sshd.port)
                if not (again and again["ok"]):
                    return Verdict(case, LOST, f"first: {said}; then: {again}")
            wrong = self._wrong(root, between, reader)
            return Verdict(
                case,
                LOST if wrong else fate,
                wrong,
                (said or {}).get("reconnects", 0),
                time.monotonic() - started,
                (said or {}).get("error", ""),
            )

    def _wrong(self, root: Path, between: str, reader: _Reader) -> str:
        if between not in ("old", "new"):
            return f"after the fault, current was {between}"
        if (live := self._live(root)) != "new":
            return f"in the end, current is {live}"
        if reader.odd:
            return f"a reader saw {reader.odd[:3]}"
        if not reader.reads:
            return "the reader read nothing"
        if running := _running_jobs(root):
            return f"jobs are left: {running}"
        locks = sorted((root / ".switchover/lock").iterdir(), key=lambda p: int(p.name))
        if not (locks[-1] / "released").exists():
            return "it is still locked"
        if left := [p.name for p in (root / ".switchover/incoming").iterdir()]:
            return f"staging is left: {left}"
        runs = (root / "shared/hooks.log").read_text().count("new")
        return "" if 1 <= runs <= 2 else f"the hook ran {runs} times"

    def _live(self, root: Path) -> str:
        """old, new, or what else `current` leads to."""
        release = (root / "current").resolve()
        found = _tree(release)
        for name, tree in self.trees.items():
            if found == tree:
                return name
        wanted = self.trees["new"]
        differ = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        return f"neither ({release.name}: {differ[:5]} differ from the new one)"

    @contextmanager
    def _host(self, strategy: str) -> Iterator[Path]:
        """A deploy_to with the old release live: a copy of one that was deployed for real."""
        if strategy not in self.templates:
            template = self.sshd.new_dir("template-")
            said = self._client(template, Case("none", 0, strategy), self.sshd.port, site=self.old)
            if not said or not said["ok"]:
                raise RuntimeError(f"the first deployment failed: {said}")
            self.templates[strategy] = template
        root = self.sshd.new_dir("case-")
        subprocess.run(["cp", "-a", f"{self.templates[strategy]}/.", str(root)], check=True)
        try:
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _client(self, root: Path, case: Case, port: int, site: Path | None = None) -> dict[str, Any] | None:
        """A deployment in a process of its own; None where it was killed."""
        ours, theirs = self.context.Pipe()
        place = {
            "root": str(root),
            "site": str(site or self.new),
            "port": port,
            "user": self.sshd.user,
            "identity": str(self.sshd.identity),
            "known_hosts": str(self.folder / "known_hosts"),
            "health": f"http://127.0.0.1:{self.web.server_port}/",
        }
        process = self.context.Process(target=_deploy, args=(theirs, place, case))
        process.start()
        theirs.close()
        try:
            return self._listen(ours, process, case)
        finally:
            process.kill()
            process.join()

    def _listen(self, pipe: Pipe, process: Any, case: Case) -> dict[str, Any] | None:
        deadline = time.monotonic() + CLIENT_LIMIT
        while True:
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                return {"ok": False, "error": "the client hangs", "hangs": True}
            try:
                said: dict[str, Any] = pipe.recv()
            except (EOFError, ConnectionResetError):
                return None
            if "step" not in said:
                return said
            if case.late:  # in the middle of the step: it goes on while we wait
                pipe.send("go on")
                time.sleep(case.late)
                self._strike(case, process)
            else:
                self._strike(case, process)
                with contextlib.suppress(OSError):
                    pipe.send("go on")

    def _strike(self, case: Case, process: Any) -> None:
        self.struck = True
        if case.strike:
            assert self.cutter is not None
            self.cutter.arm(case.strike, drop=True)
            return
        sessions = descendants(self.sshd.pid)
        if case.fault == "kill-client":
            process.kill()
        elif case.fault == "kill-sessions":
            end_processes(sessions)
        elif case.fault == "reboot":
            end_processes([*sessions, *detached_from(self.sshd.port)])
        elif case.fault == "stop-sessions":
            for pid in sessions:
                _signal(pid, signal.SIGSTOP)
            wake = KEEPALIVE["interval"] * KEEPALIVE["count"] * 2
            threading.Timer(wake, lambda: [_signal(pid, signal.SIGCONT) for pid in sessions]).start()


class _Healthy(BaseHTTPRequestHandler):
    """Always well; whether the release is, the harness sees by itself."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _running_jobs(root: Path) -> list[str]:
    """Jobs that don't end within moments. One that a late command starts finds no lock, and ends at once."""
    jobs = root / ".switchover/jobs"
    for _ in range(50):
        running = [j.name for j in jobs.glob("*") if not (j / "status").exists()] if jobs.exists() else []
        if not running:
            return []
        time.sleep(0.1)
    return running


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


class _Reader:
    """A visitor: opens current/ and reads two files of it, again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reads = 0
        self.odd: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            try:
                folder = os.open(self.root / "current", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    seen = {self._read(folder, "index.html"), self._read(folder, "deep/er/page.html")}
                finally:
                    os.close(folder)
            except OSError as error:
                self.odd.append(str(error))
                continue
            self.reads += 1
            if len(seen) != 1:
                self.odd.append(f"mixed {seen}")

    def _read(self, folder: int, name: str) -> bytes:
        file = os.open(name, os.O_RDONLY, dir_fd=folder)
        try:
            return os.read(file, 3)
        finally:
            os.close(file)


def _deploy(pipe: Pipe, place: dict[str, Any], case: Case) -> None:
    """The client process: deploys, and says how it went."""
    steps, struck = 0, False

    def listen(event: Event) -> None:
        nonlocal steps, struck
        if isinstance(event, StepStarted) and case.fault != "none" and not struck:
            steps += 1
            if case.begins(steps, event.step):
                struck = True
                pipe.send({"step": event.step})
                pipe.recv()

    settings = load(
        None,
        overrides={
            "source": {"path": place["site"]},
            "deploy_to": place["root"],
            "strategy": case.strategy,
            "transfer": case.transfer,
            "shared": {"dirs": ["uploads"]},
            "hooks": {"before_switch": ["head -c 3 index.html >> ../../shared/hooks.log"]},
            "health": {"url": place["health"]},
            "ssh": {
                "known_hosts": place["known_hosts"],
                "host_keys": "off",
                "connect_timeout": 2 if case.times else 5,
                "keepalive": KEEPALIVE,
                "reconnect": {"attempts": 8, "window": 30},
            },
        },
    )
    target = Target(f"{place['user']}@127.0.0.1:{place['port']}", place["identity"])
    outcome = deploy(settings, [target], options=Options(), listener=listen)
    error = f"{outcome.error.what} {outcome.error.why}" if outcome.error else ""
    reconnects = outcome.hosts[0].reconnects if outcome.hosts else 0
    pipe.send({"ok": outcome.ok, "code": outcome.exit_code, "error": error, "reconnects": reconnects})


def _write_site(root: Path, version: str) -> None:
    """Some forty files: most differ between the versions, some vanish, one is large."""
    for path in ("index.html", "deep/er/page.html", *(f"pages/{i}/index.html" for i in range(30))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{version} {path}\n")
    (root / "same.txt").write_text("the same in both\n")
    (root / f"only-{version}").mkdir()
    (root / f"only-{version}/file").write_text(version)
    (root / "link").symlink_to(f"only-{version}/file")
    seed = hashlib.sha256(version.encode()).digest()
    (root / "large.bin").write_bytes(
        b"".join(hashlib.sha256(seed + bytes([i, j])).digest() for i in range(128) for j in range(128))
    )
    (root / "run.sh").write_text(f"echo {version}\n")
    (root / "run.sh").chmod(0o755)


def _tree(root: Path) -> dict[str, tuple[str, int, str]]:
    """Kind, mode and content of everything below `root`, but for what a release has of its own."""
    found = {}
    for folder, dirs, files in os.walk(root):
        for name in (*dirs, *files):
            path = Path(folder) / name
            relative = str(path.relative_to(root))
            if relative in ("REVISION", "uploads"):
                continue
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                found[relative] = ("link", 0, str(path.readlink()))
            elif stat.S_ISDIR(info.st_mode):
                found[relative] = ("dir", 0, "")
            else:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[relative] = ("file", stat.S_IMODE(info.st_mode), digest)
    return found
