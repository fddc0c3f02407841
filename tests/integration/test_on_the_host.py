"""docs/on-the-host.md is enough to write another client: here is one, of files and links alone."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Project
from tests.support.waiting import Barrier

pytestmark = pytest.mark.timeout(120)

ID = re.compile(r"[0-9]{14}(-([2-9]|[1-9][0-9]{1,8}))?")
ESCAPES = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


class OtherClient:
    """Reads and writes under a deploy_to as the page says, and knows nothing else."""

    def __init__(self, project: Project) -> None:
        self.root = project.deploy_to
        self.own = self.root / ".switchover"
        self.give = project.server.give  # we are root here, and the files the login account's

    def write(self, path: Path, text: str) -> None:
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text)
        fresh.chmod(0o600)
        self.give(fresh).replace(path)

    # -- the lock --------------------------------------------------------------------------------------

    def highest(self) -> int:
        names = [
            path.name for path in (self.own / "lock").iterdir() if path.is_dir() and not path.is_symlink()
        ]
        return max((int(name) for name in names if re.fullmatch("[1-9][0-9]*", name)), default=0)

    def held(self) -> bool:
        return self.highest() > 0 and not (self.own / f"lock/{self.highest()}/released").exists()

    def take(self) -> Path:
        assert not self.held()
        mine = self.own / f"lock/{self.highest() + 1}"
        mine.mkdir(0o700)
        self.give(mine)
        token = secrets.token_hex(12)
        (mine / "token").symlink_to(token)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"user": "other", "machine": "client", "pid": 1, "time": now, "command": "by hand"}
        self.write(mine / "owner", json.dumps({**owner, "token": token, "place": ""}))
        assert self.highest() == int(mine.name)
        return mine

    def release(self, mine: Path) -> None:
        (mine / "released").touch()
        self.give(mine / "released")

    # -- records and manifests ---------------------------------------------------------------------------

    def record(self, release: str) -> dict[str, Any]:
        path = self.own / f"releases/{release}/record.json"
        found: dict[str, Any] = json.loads(path.read_text())
        assert found["id"] == release and ID.fullmatch(release) and path.stat().st_size <= 64 << 10
        return found

    def become(self, release: str, state: str) -> None:
        path = self.own / f"releases/{release}/record.json"
        self.write(path, json.dumps({**self.record(release), "state": state}))

    def manifest(self, folder: str) -> dict[str, tuple[str, int, int, str]]:
        """By path: kind, mode, size, content."""
        head, *lines = (self.own / folder / "manifest").read_text().splitlines()
        title, count = head.split("\t")
        found = {}
        for line in lines:
            kind, mode, size, mtime, content, path = line.split("\t")
            found[unescaped(path)] = kind, int(mode, 8), int(size), unescaped(content)
            assert int(mtime) > 0
        assert title == "switchover manifest 1" and len(found) == int(count) == len(lines)
        return found

    def switch(self, release: str) -> None:
        fresh = self.own / f"current.{secrets.token_hex(4)}"
        fresh.symlink_to(f"releases/{release}")
        self.give(fresh).replace(self.root / "current")


def unescaped(text: str) -> str:
    return re.sub(r"\\[\\tnr]", lambda found: ESCAPES[found.group()], text)


@pytest.fixture
def client(project: Project) -> OtherClient:
    project.write({"odd\tname": "x\n", "back\\slash": "y\n"})
    (project.build / "latest").symlink_to("css/site.css")
    project.configure(shared={"dirs": ["uploads"], "files": [".env"]})
    project.deployed()
    project.write({"index.html": "two\n"})
    project.deployed()
    return OtherClient(project)


def test_what_a_manifest_says_is_what_stands_there(project: Project, client: OtherClient) -> None:
    live = project.live
    assert live is not None
    listed = client.manifest(f"releases/{live}")
    assert listed == client.manifest("cache") and {"odd\tname", "back\\slash", "latest", "css"} <= set(listed)
    for path, (kind, mode, size, content) in listed.items():
        file = project.current / path
        if kind == "file":
            assert (file.stat().st_mode & 0o7777, file.stat().st_size) == (mode, size)
            assert hashlib.sha256(file.read_bytes()).hexdigest() == content
        elif kind == "link":
            assert str(file.readlink()) == content
        else:
            assert file.is_dir() and content == ""
    there = {str(path.relative_to(project.current)) for path in project.current.rglob("*")}
    assert there - set(listed) - {".env"} == {"REVISION", "uploads"}


def test_what_a_record_says(project: Project, client: OtherClient) -> None:
    first, second = sorted(project.released)
    assert [client.record(name)["state"] for name in (first, second)] == ["good", "live"]
    record = client.record(second)
    assert record["before"] == f"releases/{first}" and record["shared"] == ["uploads", ".env"]
    assert record["revision"] == (project.current / "REVISION").read_text().strip()
    text = (project.deploy_to / f".switchover/releases/{second}/manifest").read_bytes()
    assert record["manifest"] == hashlib.sha256(text).hexdigest()
    datetime.fromisoformat(record["created"])


def test_modes(project: Project, client: OtherClient) -> None:
    own = project.deploy_to / ".switchover"
    folders = [own, *(path for path in own.rglob("*") if path.is_dir() and not path.is_symlink())]
    assert {oct(path.stat().st_mode & 0o7777) for path in folders} == {"0o700"}


def test_a_lock_that_another_client_holds(project: Project, client: OtherClient) -> None:
    assert not client.held()
    mine = client.take()
    project.fab("deploy", code=5).says("other@client", "by hand")
    client.release(mine)
    project.fab("deploy")
    assert not client.held()


def test_what_another_client_sees_of_ours(project: Project, client: OtherClient, barrier: Barrier) -> None:
    """The lock, its owner, and the job of the hook, by its claim."""
    project.configure(hooks={"before_switch": [f"echo waiting; {barrier.hook}"]})
    with project.start("deploy") as running:
        barrier.wait()
        lock = client.own / f"lock/{client.highest()}"
        owner = json.loads((lock / "owner").read_text())
        assert client.held() and owner["pid"] == running.process.pid and owner["command"] == "fab deploy"
        assert str((lock / "token").readlink()) == owner["token"]
        (job,) = [path for path in (client.own / "jobs").iterdir() if "before_switch" in path.name]
        pid, start, boot = str((job / "process").readlink()).split(" ")
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == start
        assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert (job / "log").read_text() == "waiting\n" and not (job / "status").exists()
        (building,) = [name for name in project.states() if project.states()[name] == "building"]
        assert job.name.startswith(building)
        barrier.open()
        running.finish()


def test_a_lock_that_another_client_breaks(project: Project, client: OtherClient, barrier: Barrier) -> None:
    project.configure(hooks={"before_switch": [barrier.hook]})
    with project.start("deploy") as running:
        barrier.wait()
        before = project.live
        client.release(client.own / f"lock/{client.highest()}")
        barrier.open()
        running.finish(code=1).says("lock", "was broken")
    assert project.live == before


def test_a_rollback_by_another_client(project: Project, client: OtherClient) -> None:
    first, second = sorted(project.released)
    mine = client.take()
    client.switch(first)
    client.become(second, "good")
    client.become(first, "live")
    client.release(mine)
    (host,) = project.fab("releases", "--json").json["hosts"]
    assert host["current"] == first
    assert {r["id"]: r["state"] for r in host["releases"]} == {first: "live", second: "good"}
    project.deployed()
