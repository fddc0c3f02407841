"""Which host keys are taken: files as OpenSSH has them, without a server."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import paramiko
import pytest

from fabfile.errors import HostKeyRefused
from fabfile.remote import known_hosts
from fabfile.remote.host_keys import HostKeys, Said
from fabfile.settings import Ssh

HOST, PORT = "shop.example.com", 2222
KEYS = [paramiko.ECDSAKey.generate() for _ in range(2)]
OURS, OTHER = (key.asbytes() for key in KEYS)
pytestmark = pytest.mark.promise("host-keys")


def line(name: str, blob: bytes, marker: str = "") -> str:
    return f"{marker} {name} {KEYS[0].get_name()} {base64.b64encode(blob).decode()}".strip() + "\n"


class Files:
    """known_hosts, and the machine's own file. told: what a person reads."""

    def __init__(self, folder: Path) -> None:
        self.own, self.machine = folder / "known_hosts", folder / "ssh_known_hosts"
        self.told: list[str] = []

    def check(self, blob: bytes, mode: str = "strict", **said: Any) -> None:
        rules = Ssh(host_keys=mode, known_hosts=self.own)  # type: ignore[arg-type]
        given = Said(files=(self.own,), global_files=(self.machine,), **said)
        keys = HostKeys(HOST, PORT, rules, given, lambda level, text: self.told.append(text))
        keys.read()
        keys.check(blob)

    def refuses(self, blob: bytes, mode: str = "accept-new", **said: Any) -> str:
        with pytest.raises(HostKeyRefused) as told:
            self.check(blob, mode, **said)
        return told.value.problem


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize(
    "name", [f"[{HOST}]:{PORT}", f"[*.example.com]:{PORT}", "*", HOST, f"!x,[{HOST}]:{PORT}"]
)
def test_a_known_key_by_its_name_or_a_pattern(files: Files, name: str) -> None:
    files.own.write_text(line(name, OURS))
    files.check(OURS)
    if name != HOST:
        assert files.refuses(OTHER) == "changed"


def test_a_key_that_the_machines_own_file_knows(files: Files) -> None:
    files.machine.write_text(line(f"[{HOST}]:{PORT}", OURS))
    files.check(OURS)
    assert files.refuses(OTHER) == "changed"


def test_a_second_key_of_the_same_type(files: Files) -> None:
    files.own.write_text(line(f"[{HOST}]:{PORT}", OTHER) + line(f"[{HOST}]:{PORT}", OURS))
    files.check(OURS)
    files.check(OTHER)


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
def test_a_revoked_key_is_never_taken(files: Files, mode: str) -> None:
    files.own.write_text(line("*", OURS, "@revoked") + line(f"[{HOST}]:{PORT}", OURS))
    assert files.refuses(OURS, mode) == "revoked"


def test_a_key_that_is_listed_as_revoked(files: Files, tmp_path: Path) -> None:
    files.own.write_text(line(f"[{HOST}]:{PORT}", OURS))
    revoked = tmp_path / "revoked"
    revoked.write_text(f"{KEYS[0].get_name()} {base64.b64encode(OURS).decode()}\n")
    assert files.refuses(OURS, revoked=revoked) == "revoked"
    assert files.refuses(OTHER, revoked=tmp_path / "missing") == "unreadable"


def test_an_authoritys_key_is_not_the_hosts_own(files: Files) -> None:
    files.own.write_text(line("*", OURS, "@cert-authority"))
    assert files.refuses(OURS, "strict") == "unknown"


def test_a_new_key_is_written_down_and_told(files: Files) -> None:
    assert files.refuses(OURS, "strict") == "unknown"
    assert not files.own.exists()
    files.check(OURS, "accept-new")
    assert "SHA256:" in files.told[0]
    assert files.refuses(OTHER) == "changed"
    files.check(OURS)


def test_a_new_key_is_not_glued_to_a_line_without_its_end(files: Files) -> None:
    files.own.write_text(line("elsewhere.example.com", OTHER).rstrip("\n"))
    files.check(OURS, "accept-new")
    files.check(OURS)
    first, second = files.own.read_text().splitlines()
    assert first.startswith("elsewhere") and second.startswith(f"[{HOST}]:{PORT} ")
    known_hosts.remember(files.own, "third", KEYS[0].get_name(), OTHER, hashed=False)
    assert len(files.own.read_text().splitlines()) == 3


def test_a_line_that_can_not_be_read_is_passed_over(files: Files) -> None:
    files.own.write_bytes(b"# caf\xe9\nrubbish\n@what is this\n" + line(f"[{HOST}]:{PORT}", OURS).encode())
    files.check(OURS)


def test_off_takes_any_key_and_says_so(files: Files) -> None:
    files.own.write_text(line(f"[{HOST}]:{PORT}", OTHER))
    files.check(OURS, "off")
    assert files.told
