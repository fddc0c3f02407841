"""known_hosts and what `ssh -G` says, from a generator: no error but ours, and the same as OpenSSH finds."""

from __future__ import annotations

import base64
import subprocess

import fabric
import paramiko
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fabfile import address
from fabfile.errors import SwitchoverError
from fabfile.remote import known_hosts, ssh_config
from fabfile.remote.connection import Connection
from fabfile.settings import Ssh

KEY = paramiko.ECDSAKey.generate()
GOOD = f"{KEY.get_name()} {base64.b64encode(KEY.asbytes()).decode()}".encode()
NAMES = ("web1", "[web1]:2222", "10.0.0.1", "[10.0.0.1]:22", "[::1]:2222", "WEB1.example.com")

# -- known_hosts -----------------------------------------------------------------------------------------

pieces = st.sampled_from([
    "web1", "web?", "*", "[web1]:2222", "[*]:*", "10.0.0.*", "10.0.0.1", "[::1]:2222", "WEB1.example.com",
    "*.example.com", "!web1", "![web1]:*", "!*", "", "[", "|1|a|b", "#x",
])  # fmt: skip
fields = st.lists(pieces, min_size=1, max_size=4).map(",".join).map(str.encode)
keys = st.sampled_from([GOOD, GOOD + b" a comment", GOOD[:-5], b"ssh-rsa AAAA", KEY.get_name().encode(), b""])
markers = st.sampled_from([b"", b"", b"", b"@revoked ", b"@cert-authority ", b"@what ", b"\t", b"  "])
spaces = st.sampled_from([b" ", b"\t", b"  "])
lines = st.tuples(markers, fields, spaces, keys).map(b"".join)
# ssh-keygen -F finds a line whose key is damaged, too; ssh does not take it.
sound = st.tuples(markers, fields, spaces, st.just(GOOD)).map(b"".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(sound, max_size=4).map(b"\n".join), st.sampled_from(NAMES))
@example(b"!web1,* " + GOOD, "web1")
@example(b"@cert-authority * " + GOOD, "10.0.0.1")
@example(b"@revoked #x,web1 " + GOOD, "web1")
def test_what_ssh_keygen_finds_we_find(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, name: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "known_hosts"
    file.write_bytes(text + b"\n")
    found = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, timeout=30)
    ours = known_hosts.entries([file], name)
    assert bool(ours) == (found.returncode == 0), (found.stdout, ours)
    assert len(ours) == found.stdout.count(b"# Host "), (found.stdout, ours)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), lines), max_size=6).map(b"\n".join), st.text(max_size=20))
def test_no_line_of_known_hosts_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, name: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "known_hosts"
    file.write_bytes(text)
    for entry in known_hosts.entries([file], name):
        assert entry.marker in ("", "revoked", "cert-authority")


# -- ssh -G ----------------------------------------------------------------------------------------------

WORDS = (
    "hostname", "user", "port", "proxyjump", "proxycommand", "identityfile", "certificatefile",
    "identitiesonly", "identityagent", "userknownhostsfile", "globalknownhostsfile", "hostkeyalias",
    "revokedhostkeys", "stricthostkeychecking", "hashknownhosts", "hostkeyalgorithms",
    "casignaturealgorithms", "connecttimeout", "forwardagent",
)  # fmt: skip
values = st.one_of(
    st.sampled_from([
        "none", "yes", "22", "%h", "%x", "%", "${HOME}", "${NO}", "$NO", "~", "~nobody/x", "a,b", "a@b:c@d:1",
        "[::1]", "u@[::1]:99999", "ssh://", "ssh://u@h:22", ",", "-1", "'", '"', "", " a  b ",
    ]),
    st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]), max_size=12),
)  # fmt: skip
answers = st.lists(st.tuples(st.sampled_from(WORDS), values), max_size=8)


@settings(max_examples=80, deadline=None)
@given(answers)
@example([("port", "x")])
@example([("forwardagent", "/run/agent")])
@example([("proxyjump", "[::1")])
@example([("userknownhostsfile", "~\x00/x")])
def test_no_answer_of_ssh_is_an_error_of_another_kind(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str]]
) -> None:
    """Whatever it says: a connection that can be tried, or an error of ours that says what is wrong."""
    folder = tmp_path_factory.getbasetemp()
    ssh = folder / "ssh"
    if not ssh.exists():
        ssh.write_text(f"#!/bin/sh\nexec cat {folder / 'answer'}\n")
        ssh.chmod(0o755)
    (folder / "answer").write_bytes("\n".join(f"{key} {value}" for key, value in said).encode())
    config = fabric.Config(runtime_ssh_path="/dev/null")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssh_config.shutil, "which", lambda name: str(ssh))
        try:
            Connection(str(address.parse("way").host), Ssh(), config).close()
        except SwitchoverError as error:
            assert error.what and error.why
