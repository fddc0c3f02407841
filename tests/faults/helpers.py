"""Ways to strike at a chosen moment, and to look at what is left on the host."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import fabric

from fabfile import fleet
from fabfile.remote.host import Host, connect
from fabfile.settings import Ssh, load
from tests.support.listening import Listener
from tests.support.project import Project
from tests.support.sshd import Sshd, descendants, end_processes, runs
from tests.support.waiting import eventually

CLIENT_LIMIT = 60.0  # seconds for a step of a client, or for its end

# A machine under load does not count as silent; a lost connection is tried again for some seconds.
PATIENT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalive": {"interval": 2, "count": 5},
    "reconnect": {"attempts": 10, "window": 30},
}


def host_of(server: Any, port: int | None = None, **rules: Any) -> Host:
    """The server as a Host, not yet connected."""
    chosen: dict[str, Any] = {**PATIENT, "host_keys": "off", **rules}
    address = f"{server.user}@{server.host}:{port or server.port}"
    config = fabric.Config(runtime_ssh_path="/dev/null")
    return connect("host", address, Ssh(**chosen), config, identity=str(server.identity))


# -- a client that can be held and killed ----------------------------------------------------------------


class Client:
    """A deployment in a process of its own, which waits at the beginning of a step until it is let go.

    options: what fleet.Options takes.
    """

    def __init__(self, project: Project, stop_at: str, port: int | None = None, **options: bool) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = self.context.Pipe()
        how = (str(project.folder), str(project.ssh_config), project.address(port))
        self.process = self.context.Process(
            target=_deploy, args=(theirs, *how, str(project.server.identity), stop_at, options)
        )
        self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Until it is at that step."""
        assert self.pipe.poll(CLIENT_LIMIT), "the client did not come to its step"
        assert self.pipe.recv() == "here", "the client ended before its step"

    def go_on(self) -> dict[str, Any]:
        """Let it; what became of it: exit code, error, notes."""
        self.pipe.send("go on")
        assert self.pipe.poll(CLIENT_LIMIT), "the client hangs"
        said: dict[str, Any] = self.pipe.recv()
        return said

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.join(10)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _deploy(
    pipe: Pipe,
    folder: str,
    ssh_config: str,
    address: str,
    identity: str,
    stop_at: str,
    options: dict[str, bool],
) -> None:
    def stop() -> None:
        pipe.send("here")
        pipe.recv()

    listener = Listener(**{stop_at: stop})
    outcome = fleet.deploy(
        load(Path(folder, "config.yaml")),
        [fleet.Target(address, identity)],
        options=fleet.Options(**options),
        listener=listener,
        config=fabric.Config(runtime_ssh_path=ssh_config),
    )
    error = outcome.error.as_dict() if outcome.error else None
    pipe.send({"code": outcome.exit_code, "error": error, "notes": listener.notes})


# -- sources ---------------------------------------------------------------------------------------------

LARGE, SMALL = 24 << 20, 200


def write_big_source(project: Project, seed: int = 1) -> int:
    """One large file among many small ones, none of which can be compressed; their size altogether."""
    chance = random.Random(seed)
    shutil.rmtree(project.build)
    (project.build / "m").mkdir(parents=True)
    (project.build / "m/large.bin").write_bytes(chance.randbytes(LARGE))
    for number in range(SMALL):
        name = project.build / f"{'az'[number % 2]}{number % 7}/file-{number}"
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(chance.randbytes(chance.randrange(100, 2000)))
    return sum(path.stat().st_size for path in project.build.rglob("*") if path.is_file())


# -- what is left on the host ----------------------------------------------------------------------------


def record(project: Project, release: str) -> dict[str, Any]:
    """A release's record."""
    text = (project.deploy_to / f".switchover/releases/{release}/record.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def unfinished(project: Project) -> str:
    """The one release that was interrupted."""
    (found,) = [name for name, state in project.states().items() if state in ("building", "ready")]
    return found


def processes(file: Path, count: int) -> list[int]:
    """The process ids in `file`, once there are so many."""
    eventually(lambda: file.exists() and len(file.read_text().split()) >= count, "the processes run")
    found = [int(word) for word in file.read_text().split()]
    assert all(runs(pid) for pid in found)
    return found


def all_gone(pids: list[int]) -> None:
    """Wait for their end."""
    eventually(lambda: not any(runs(pid) for pid in pids), f"none of {pids} runs any more")


def sessions(server: Sshd) -> list[int]:
    """sshd's own processes for those that are logged in; not what they have started."""
    found = [pid for pid in descendants(server.pid) if _name(pid).startswith("sshd")]
    assert found, "nobody is logged in"
    return found


def kill_sshd(server: Sshd) -> None:
    """End sshd and all sessions; what these have started lives on, as after `systemctl stop ssh`."""
    end_processes([server.pid, *sessions(server)])
    server.stop()


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


# -- what only root can make -----------------------------------------------------------------------------
