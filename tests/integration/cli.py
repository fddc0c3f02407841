"""The project from outside: a folder with config.yaml, and `fab` run in it as a person would."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fabric

from fabfile import fleet
from fabfile.commands.deployment import Options
from fabfile.events import Listener, silent
from fabfile.settings import load
from tests.lab.sshd import Sshd

REPOSITORY = Path(__file__).resolve().parents[2]
FAB = Path(sys.executable).parent / "fab"
TIMEOUT = 60.0  # seconds for one fab; on loopback it needs two
RELEASE_ID = re.compile(r"\d{14}(-[1-9]\d*)?")
TRACEBACK = "Traceback (most recent call last)"

HOST_KEYS = {
    "host", "ok", "release", "previous", "live", "strategy", "transfer", "copy", "files_uploaded",
    "files_deleted", "bytes_uploaded", "reconnects", "phases", "failed_in", "error",
    "seeds", "unserved",
}  # fmt: skip
ERROR_KEYS = {"what", "why", "try"}


@dataclass(frozen=True)
class Done:
    """What a fab left. No traceback is in it: that is looked at before anybody gets one."""

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON document that stdout is."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found

    @property
    def host(self) -> dict[str, Any]:
        """The only entry of the JSON's `hosts`."""
        (entry,) = self.json["hosts"]
        assert isinstance(entry, dict)
        return entry

    def says(self, *words: str) -> None:
        """Each of these is in the error that a person reads (stderr), or in the report before it."""
        told = self.stdout + self.stderr
        missing = [word for word in words if word not in told]
        assert not missing, f"{missing} is not in:\n{self}"

    def __str__(self) -> str:
        return f"fab {' '.join(self.args)} -> {self.code}\n{self.stdout}\n--- stderr\n{self.stderr}"


class Running:
    """A fab that has been started; finish() waits for it, bounded."""

    def __init__(
        self, args: Sequence[str], cwd: Path, environment: dict[str, str], folder: Path | None = None
    ) -> None:
        self.args = tuple(args)
        self.process = subprocess.Popen(
            [str(FAB), "-r", str(REPOSITORY), *args],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, code: int | None = 0, timeout: float = TIMEOUT) -> Done:
        """Wait for its end; asserts its exit code (unless None) and that there is no traceback."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate(timeout=5)
            raise AssertionError(
                f"fab {' '.join(self.args)} did not end in {timeout:g} s:\n{out!r}\n{err!r}"
            ) from None
        done = Done(
            self.args, self.process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )
        assert TRACEBACK not in done.stdout + done.stderr, str(done)
        assert "Switchover itself made a mistake" not in done.stdout + done.stderr, str(done)
        assert code is None or done.code == code, f"expected exit code {code}: {done}"
        return done

    def kill(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.communicate(timeout=5)


@dataclass
class UploadTarget:
    """A deployment root on a host, looked at from here."""

    deploy_to: Path

    @property
    def current(self) -> Path:
        """The link."""
        return self.deploy_to / "current"

    @property
    def live(self) -> str | None:
        """The id that `current` points at; None where there is no link."""
        if not self.current.is_symlink():
            return None
        target = self.current.readlink()
        assert target.parent == Path("releases"), target
        return target.name

    @property
    def released(self) -> list[str]:
        """The names in releases/."""
        return sorted(path.name for path in (self.deploy_to / "releases").iterdir())

    def states(self) -> dict[str, str]:
        """The records on the host: id -> state."""
        records = (self.deploy_to / ".switchover/releases").glob("*/record.json")
        return {path.parent.name: json.loads(path.read_text())["state"] for path in records}

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        numbers = [path for path in (self.deploy_to / ".switchover/lock").glob("[0-9]*")]
        newest = max(numbers, key=lambda path: int(path.name), default=None)
        return newest is not None and not (newest / "released").exists()

    def is_tidy(self) -> bool:
        """No upload is left over, and no lock."""
        return not self.locked() and not list((self.deploy_to / ".switchover/incoming").iterdir())


class Project(UploadTarget):
    """A folder with config.yaml and build/, and the server it is deployed to."""

    def __init__(self, folder: Path, server: Sshd, deploy_to: Path) -> None:
        super().__init__(deploy_to)
        self.folder = folder
        self.server = server
        (self.folder / "home").mkdir(parents=True)
        # `ssh -G` reads the real home's ssh_config whatever HOME says; an empty file keeps it out.
        self.ssh_config = self.folder / "ssh_config"
        self.ssh_config.touch()
        self.write({"index.html": "one\n", "css/site.css": "body {}\n", "about.html": "about\n"})
        self.configure()

    @property
    def build(self) -> Path:
        """The source."""
        return self.folder / "build"

    @property
    def known_hosts(self) -> Path:
        """The file of host keys that the configuration names."""
        return self.folder / "known_hosts"

    @property
    def environment(self) -> dict[str, str]:
        """What fab is started with."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SWITCHOVER_", "GITHUB_"))}
        return {**inherited, "HOME": str(self.folder / "home")}

    def write(self, files: dict[str, str | None]) -> None:
        """Put files into the source; None removes one."""
        for name, text in files.items():
            path = self.build / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def configure(self, **keys: Any) -> None:
        """Write config.yaml: the needed keys, and `keys` over them (None leaves one out)."""
        ssh = {"known_hosts": "./known_hosts", **keys.pop("ssh", {})}
        wanted = {"deploy_to": str(self.deploy_to), "source": {"path": "./build"}, "ssh": ssh, **keys}
        kept = {key: value for key, value in wanted.items() if value is not None}
        (self.folder / "config.yaml").write_text(json.dumps(kept, indent=1))  # JSON is YAML

    def address(self, port: int | None = None) -> str:
        """What -H is given."""
        return f"{self.server.user}@{self.server.host}:{port or self.server.port}"

    # -- running ---------------------------------------------------------------------------------------

    def fab(
        self,
        *args: str,
        code: int | None = 0,
        hosts: str | None = None,
        cwd: Path | None = None,
        timeout: float = TIMEOUT,
        **environment: str,
    ) -> Done:
        """Run `fab -H … ARGS` to its end; hosts: "" leaves -H out."""
        return self.start(*args, hosts=hosts, cwd=cwd, **environment).finish(code, timeout)

    def start(
        self, *args: str, hosts: str | None = None, cwd: Path | None = None, **environment: str
    ) -> Running:
        """Start it, and let it run."""
        named = self.address() if hosts is None else hosts
        given = ["-i", str(self.server.identity), *(["-H", named] if named else [])]
        if not {"-S", "--ssh-config"} & set(args):
            given += ["-S", str(self.ssh_config)]
        return Running([*given, *args], cwd or self.folder, {**self.environment, **environment})

    def type(self, line: str, code: int = 0) -> str:
        """Run a line as an error tells to type it; what it says."""
        path = f"{FAB.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env={**self.environment, "PATH": path}, timeout=TIMEOUT,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def deploy(
        self,
        *,
        listener: Listener = silent,
        targets: Sequence[str] = (),
        options: Options | None = None,
    ) -> fleet.Outcome:
        """A deployment in this process, by the same configuration: what a test needs before its own."""
        settings = load(self.folder / "config.yaml")
        config = fabric.Config(runtime_ssh_path=str(self.ssh_config))
        addresses = targets or [self.address()]
        chosen = [fleet.Target(address, str(self.server.identity)) for address in addresses]
        return fleet.deploy(settings, chosen, options=options, listener=listener, config=config)

    def deployed(self, **how: Any) -> str:
        """Deploy in this process; the id of the release, which is live then."""
        outcome = self.deploy(**how)
        assert outcome.ok, outcome.error and (outcome.error.what, outcome.error.why)
        release = outcome.hosts[0].release
        assert release is not None and release == self.live
        return release


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a write would change: kinds, modes, sizes, mtimes, links, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        info = path.lstat()
        if path.is_symlink():
            content: object = path.readlink()
        else:
            content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (info.st_ino, info.st_mode, info.st_mtime_ns, content)
    return found


@contextlib.contextmanager
def untouched(project: UploadTarget) -> Iterator[None]:
    """What is live before is live afterwards: the link, and every byte of the tree that it points at."""
    assert project.live is not None, "deploy something first"
    link, tree = project.current.lstat(), snapshot(project.current.resolve())
    live = project.live
    yield
    assert project.live == live
    assert snapshot(project.current.resolve()) == tree
    assert project.current.lstat().st_ino == link.st_ino, "the link was replaced on the way"


def write_owned(project: Project, path: Path, text: str) -> None:
    """A file that the login account might have written into .switchover."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    for one in (*made, path):
        project.server.give(one)
        if one != path:
            one.chmod(0o700)


def eventually(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Wait until `condition` holds, at the longest `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


class Barrier:
    """Holds a hook on the host until the test lets it go."""

    def __init__(self, folder: Path) -> None:
        self.reached = folder / "reached"
        self.opened = folder / "open"

    @property
    def hook(self) -> str:
        """A shell command that says it is there, and waits: at the longest 60 s."""
        return (
            f"touch {self.reached}; n=0; "
            f"while [ ! -e {self.opened} ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done"
        )

    def wait(self) -> None:
        """Until the hook runs."""
        eventually(self.reached.exists, "the hook runs")

    def open(self) -> None:
        """Let it go on."""
        self.opened.touch()


class Site:
    """An HTTP server on loopback that answers with the given statuses in turn, and goes on with the last."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked = 0

    def __enter__(self) -> Site:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked += 1
                status = site.statuses.pop(0) if len(site.statuses) > 1 else site.statuses[0]
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/healthz"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Service:
    """A service on loopback that goes on with what it has loaded until it is told to load again.

    GET /reload loads index.html of what is live, as it is now. GET /healthz: 503 where what it has loaded
    says "bad". Its hook is for after_switch.
    """

    def __init__(self, deploy_to: Path) -> None:
        self.page = deploy_to / "current/index.html"
        self.loaded = ""
        self.reloads = 0

    def __enter__(self) -> Service:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/reload":
                    service.loaded = service.page.read_text()
                    service.reloads += 1
                self.send_response(503 if "bad" in service.loaded and self.path == "/healthz" else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    @property
    def hook(self) -> str:
        """What reloads it."""
        return f"curl -sf {self.base}/reload || wget -q -O /dev/null {self.base}/reload"

    @property
    def health(self) -> dict[str, object]:
        """The section of the configuration."""
        return {"url": f"{self.base}/healthz", "timeout": 1}

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
