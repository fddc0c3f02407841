"""SFTP servers that do not answer, or not with what was asked: with `auto` checks go on over SSH, soon."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabric
import pytest

from fabfile.build.source.source import scan
from fabfile.build.transfers.sftp import SftpTransfer
from fabfile.errors import FilesError, SwitchoverError
from fabfile.events import Event, Note
from fabfile.remote import sftp_files, sftp_requests
from fabfile.remote.host import Host, connect
from fabfile.settings import Ssh
from tests.support.site import Site, ssh_rules, target
from tests.support.sshd import Sshd
from tests.support.trees import assert_same, write

SCRIPT = Path(__file__).parents[1] / "support/lying_sftp.py"


class Liar:
    """A server whose SFTP tells the lie that is set."""

    def __init__(self, server: Sshd, lie: Path) -> None:
        self.server = server
        self.lie = lie
        self.notes: list[str] = []

    def host(self, lie: str, sftp: str = "auto") -> Host:
        """Connected to it."""
        self.lie.write_text(lie)
        rules = Ssh(**{**ssh_rules(self.server), "sftp": sftp})
        to = target(self.server)
        return connect("host", to.address, rules, fabric.Config(), self._listen, identity=to.identity)

    def _listen(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)


@pytest.fixture(scope="module")
def server(sshd_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    place = tmp_path_factory.mktemp("liar")
    for folder in (place, *place.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o755)
    shutil.copy(SCRIPT, place)
    (place / "lie").write_text("none")
    with Sshd(sftp=f"{place / SCRIPT.name} {place / 'lie'}") as made:
        yield made, place / "lie"


@pytest.fixture
def liar(server: tuple[Sshd, Path], monkeypatch: pytest.MonkeyPatch) -> Liar:
    """With less patience than there is: how long it is, is another test's."""
    for name, seconds in (("OPENED_WITHIN", 4.0), ("ANSWER_WITHIN", 1.0), ("PATIENCE", 6.0), ("PROMPT", 0.2)):
        monkeypatch.setattr(sftp_files, name, seconds)
    for name, seconds in (("OPENED_WITHIN", 4.0), ("ANSWER_WITHIN", 1.0)):
        monkeypatch.setattr(sftp_requests, name, seconds)
    return Liar(*server)


def test_finding_out_takes_no_longer_than_is_promised() -> None:
    """30 s in all: for the start, or for all late answers, and then to see whether the host answers."""
    assert sftp_files.OPENED_WITHIN + sftp_files.ALIVE_WITHIN <= 30
    assert sftp_files.PATIENCE + sftp_files.ALIVE_WITHIN <= 30
    assert sftp_files.ANSWER_WITHIN < sftp_files.OPENED_WITHIN < sftp_files.PATIENCE
    assert sftp_requests.OPENED_WITHIN < sftp_requests.ANSWER_WITHIN + sftp_requests.ALIVE_WITHIN <= 30


LIES = [
    "silent at the start",
    "silent",
    "silent later",
    "ends",
    "text",
    "another version",
    "trickles",
    "slow",
    "wrong number",
    "wrong numbers for ever",
    "4 GB",
    "nothing in it",
    "odd type",
    "shorter than it says",
    "granted, with nothing in it",
    "no kind",
    "two targets",
    "names that lead outside",
    "names without end",
    "more than was asked for",
]


# Of what no upload asks, or which do not keep one from its end.
WHOLE = ("trickles", "slow", "no kind", *LIES[-4:])


def look_around(host: Host, root: Path) -> list[Any]:
    """Each question, with answers that are known."""
    files = host.files
    return [
        files.lstat(f"{root}/file"),
        files.readlink(f"{root}/link"),
        files.look([f"{root}/file", f"{root}/link", f"{root}/none"]),
        files.realpath(f"{root}/link"),
        files.listing(f"{root}/folder"),
        files.read(f"{root}/file"),
        files.lstat(f"{root}/none"),
    ]


@pytest.fixture
def root(liar: Liar) -> Path:
    folder = liar.server.new_dir()
    write(folder, {"file": "content", "link": "-> file", "folder/a": "", "folder/b": ""})
    return folder


def test_the_truth_is_taken_from_sftp(liar: Liar, root: Path) -> None:
    """So that the others test the lies, and not the script that tells them."""
    host = liar.host("none", sftp="require")
    try:
        stat, link, seen, real, names, content, none = look_around(host, root)
        assert stat is not None and (stat.kind, stat.size) == ("file", 7)
        assert (link, names, content, none) == ("file", ["a", "b"], b"content", None)
        assert seen[f"{root}/none"].stat is None and seen[f"{root}/link"].target == "file"
        assert real == str(root / "file") and host.files.uses_sftp
    finally:
        host.close()


@pytest.mark.parametrize(
    "lie", [*LIES, "names that lead outside", "names without end", "more than was asked for"]
)
def test_a_lie_is_noticed_and_the_checks_go_over_ssh(liar: Liar, root: Path, lie: str) -> None:
    honest = liar.host("none", sftp="off")
    host = liar.host(lie)
    try:
        assert look_around(host, root) == look_around(honest, root)
        assert not host.files.uses_sftp
        assert [note for note in liar.notes if "checks go over SSH, because SFTP can't be used" in note]
        assert host.connection.reconnects == 0
    finally:
        host.close()
        honest.close()


@pytest.mark.parametrize("lie", ["silent at the start", "silent", "wrong numbers for ever", "4 GB", "ends"])
def test_where_sftp_is_required_it_is_an_error(liar: Liar, root: Path, lie: str) -> None:
    host = liar.host(lie, sftp="require")
    try:
        with pytest.raises(FilesError, match=r"SFTP can't be used, and ssh\.sftp is `require`"):
            look_around(host, root)
    finally:
        host.close()


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie not in WHOLE and lie != "ends"])
def test_an_upload_ends_too(liar: Liar, root: Path, tmp_path: Path, lie: str) -> None:
    """Nobody waits for an answer that was dropped; it ends as an error of ours."""
    source = scan(write(tmp_path / "source", {f"file{n}": "x" * 100_000 for n in range(40)}), (), ())
    host = liar.host(lie)
    try:
        with pytest.raises(SwitchoverError) as caught:
            SftpTransfer(host).send(
                source, list(source.manifest), f"{root}/staging", lambda files, size: None
            )
        assert isinstance(caught.value, FilesError)
    finally:
        host.close()


@pytest.mark.parametrize("lie", ["silent at the start", "silent later", "slow", "ends"])
def test_a_deployment_goes_on(liar: Liar, tmp_path: Path, lie: str) -> None:
    source = write(tmp_path / "site", {"index.html": "hello", "folder/file": "x"})
    liar.lie.write_text(lie)
    site = Site(liar.server, liar.server.new_dir(), {})
    assert site.deploy(source).reconnects == 0
    assert_same(source, site.current)
