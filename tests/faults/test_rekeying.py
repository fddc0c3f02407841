"""A server that wants new keys again and again, while data moves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.helpers import PATIENT
from tests.support.project import Project
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(90)

SIZE = 12 << 20  # bytes, which can't be compressed
MEGABYTE = 1 << 20


@pytest.mark.parametrize("transfer", ["stream", "sftp"])
def test_keys_are_exchanged_again_in_the_middle(
    tmp_path: Path, clean_environment: None, sshd_installed: None, transfer: str
) -> None:
    """A security policy may say RekeyLimit 1M: a deployment of 12 MB up and a hook that prints 3 MB come
    through on the first connection.
    """
    with Sshd(extra="RekeyLimit 1M 1s\nLogLevel DEBUG1") as server:
        project = Project(tmp_path / "project", server, server.new_dir())
        hook = "head -c 2000000 /dev/urandom | base64"
        project.configure(ssh=PATIENT, transfer=transfer, hooks={"before_switch": [hook]})
        (project.build / "large").write_bytes(random.Random(1).randbytes(SIZE))
        done = project.deploy()
        assert done.ok, done.error and done.error.why
        assert done.hosts[0].reconnects == 0, server.log()
        assert (project.current / "large").stat().st_size == SIZE
        assert server.log().count("SSH2_MSG_KEXINIT received") > SIZE // MEGABYTE // 2
