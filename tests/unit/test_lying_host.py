"""Whatever a host answers to whatever it was asked: a value that is what it says, or an error of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabfile.build import observe, proof, shared, verify
from fabfile.errors import SwitchoverError
from fabfile.on_host import lock, records, state
from fabfile.on_host.layout import RELEASE_ID, Layout
from fabfile.on_host.manifest import Entry, Manifest
from fabfile.on_host.records import Record
from fabfile.on_host.went_back import WentBack
from fabfile.remote import jobs
from fabfile.remote.checks import PathInfo, Space, Stat
from fabfile.remote.host import Host
from fabfile.remote.job_frames import JobFrames
from fabfile.remote.shell import Result, failed
from fabfile.session import hooks
from tests.support.local import LocalShell, local_host, nothing

LAYOUT = Layout("/srv/shop")
HASH = "ab" * 32
# What real answers are made of. MARK: what the script asks the answer to be framed by; TOKEN: ours.
PIECES = st.sampled_from(
    [
        *(
            "MARK",
            "MARK|",
            "MARK/",
            "MARK=",
            "MARK 7\n",
            "MARK ended 0\n",
            "MARK ended \n",
            "MARK=\n",
            ".MARK|",
            "TOKEN",
            "TOKEN\t",
            "\t",
            "\n",
            " ",
            ";",
            "\0",
        ),
        *("taken\t", "held\t", "refused\t", "free\t\t\t", "yes\t", "no\t", "0\t", "1 0", "1", "-1", "08"),
        *("9" * 30, "9" * 5000, "\u0662", "nan", "\x1e", "./a", "a", "../x", "../../shared", "/etc", HASH),
        *("81a4 5 1700000000 ./a\n", "a1ff 1 -5 ./b\n", "41ed 0 0 ./../x\n", "81a4 5 0 .//etc/passwd\n"),
        *(f"{HASH}  ./a\n", f"\\{HASH}  ./a\\n\n", f"{HASH}  ./../a\n", f"seal {HASH}\n", "seal garbage\n"),
        *(
            "shape ",
            "content ",
            "seal ",
            "kept ",
            "way ",
            "unserved ",
            "left ",
            "ended 0",
            "late",
            "gone",
            "200",
        ),
        *("user\troot\n", "machine\tx\n", "cores\t2\n", "cores\t\u0662\n", "end\t\n", "program\ttar\n"),
        *("Filesystem 1024-blocks Used Available Capacity Mounted on\n", "/dev/x 100 50 50 50% /\n"),
        *("/dev/x - - - - /\n", "switchover manifest 1\t1\n", f"file\t1a4\t5\t0\t{HASH}\ta\n"),
        *("dir\t1ed\t0\t0\t\t../x\n", "{", "}", "[" * 500, '{"token": "' + "a" * 24 + '", "pid": 1}'),
        *('{"pid": NaN}', "2026-01-01T00:00:00Z\t20260101000000\tok\t1"),
    ]
)
ANSWERS = st.lists(PIECES | st.text(max_size=5) | st.binary(max_size=5), max_size=12).map(
    lambda pieces: b"".join(p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in pieces)
)


class LyingShell(LocalShell):
    """Answers anything with what it was given."""

    said: tuple[int, bytes, bytes] = (0, b"", b"")

    def run(self, script: str, *, what: str = "", check: bool = True, sink: Any = None, **_: Any) -> Result:
        status, out, err = self.said
        mark = next(iter(re.findall(r"[0-9a-f]{16,24}", script)), "0" * 16).encode()
        out = out.replace(b"MARK", mark)
        if sink:
            sink(out)
        result = Result(status, out, err)
        if check and status:
            raise failed(what, result)
        return result

    def batch(self, parts: Any, *, guard: str = "", ended: Any = None, most: int = 0) -> list[Result]:
        return [Result(0, FACTS, b""), *(self.run(part.script, check=False) for part in parts[1:])]


FACTS = b"user\tme\nmachine\tx\ncores\t2\nend\t\n"
WANTED = Manifest([Entry("a", "file", 0o644, 5, 0, HASH)])


def _lock(host: Host) -> object:
    taken = lock.Lock(host, LAYOUT, lock.me("fab deploy"))
    taken.owner = lock.replace(taken.owner, token="TOKEN")
    taken.take(nothing())
    assert taken.held
    return taken


def _digests(host: Host) -> object:
    return observe.digests(host, "/x", ["a"])


def _listing(host: Host) -> object:
    found = observe.observe(host, "/x", hashed=True)
    for entry in found:
        assert not entry.path.startswith("/") and ".." not in entry.path.split("/") and entry.size >= 0
    return found


def _job(host: Host) -> object:
    said = host.shell.run("", check=False)
    frames = JobFrames("0" * 16, lambda piece: None)
    frames.feed(said.out)
    assert len(frames.outside) < 1 << 18
    return jobs._judge(said, frames.ending, "It", 5, True)


def _proof(host: Host) -> object:
    said = host.shell.run("", check=False).text
    shape, content = proof.expected_shape(WANTED), proof.expected_content(())
    expected: Any = verify.Expected("/x", WANTED, (), frozenset(), (), False, False)
    steps: Any = None
    whole = Result(0, f"shape {shape}\ncontent {content}\n{said}".encode("utf-8", "surrogateescape"), b"")
    try:
        _, seal = verify.judge(steps, expected, whole, shape)
    except AttributeError:  # it looks at everything now, and there are no steps here
        return None
    record = Record("20260101000000", records.GOOD, "", "", "", seal=seal)
    return Record.loads(record.dumps(), record.id)


def _shared(host: Host) -> object:
    what = shared.Shared(("up",), (), Manifest([]))
    try:
        return shared.parse(host.shell.run("", check=False).text, what)
    except ValueError:  # the caller makes an error of ours of it
        return None


def _went_back(host: Host) -> object:
    try:
        found = WentBack.loads(host.shell.run("", check=False).text)
    except ValueError:
        return None
    assert RELEASE_ID.fullmatch(found.left) and str(found).isprintable()
    return found


READERS: dict[str, Callable[[Host], object]] = {
    "facts": lambda host: host.facts,
    "lock": _lock,
    "who holds it": lambda host: lock.look(host, LAYOUT),
    "listing": _listing,
    "digests": _digests,
    "job": _job,
    "proof": _proof,
    "shared": _shared,
    "went back": _went_back,
    "manifest": lambda host: state.read_manifest(host, LAYOUT.cache_state),
    "health": lambda host: hooks.check_health(host, "http://127.0.0.1/", 200, 1),
    "lstat": lambda host: host.files.over_ssh.lstat("/x"),
    "readlink": lambda host: host.files.over_ssh.readlink("/x"),
    "realpath": lambda host: host.files.over_ssh.realpath("/x"),
    "names": lambda host: host.files.over_ssh.listing("/x"),
    "read": lambda host: host.files.over_ssh.read("/x"),
    "space": lambda host: host.files.over_ssh.space("/x"),
    "look": lambda host: host.files.over_ssh.look(["/x", "/y"]),
}


@pytest.mark.promise("answers")
@pytest.mark.parametrize("reader", READERS)
@given(status=st.sampled_from([0, 0, 0, 1, 75, 255]), out=ANSWERS, err=ANSWERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_answer_to_any_question(reader: str, status: int, out: bytes, err: bytes) -> None:
    host = local_host()
    shell = LyingShell(host.connection)
    LyingShell.said = status, out, err
    host.shell = shell
    host.files.over_ssh.shell = shell  # type: ignore[attr-defined]
    if reader != "facts":
        host.learn(FACTS.decode())
    try:
        found = READERS[reader](host)
    except SwitchoverError as error:
        assert not error.what.startswith("Switchover itself") and len(f"{error.what}{error.why}") < 20_000
        return
    if reader == "space":
        assert isinstance(found, Space) and found.free >= 0
    if reader == "lstat":
        assert found is None or isinstance(found, Stat)
    if reader == "look":
        assert isinstance(found, dict) and all(isinstance(info, PathInfo) for info in found.values())
