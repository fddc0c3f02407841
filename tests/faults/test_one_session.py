"""A server that allows one session at a time on each connection (MaxSessions 1), and what takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.on_host.layout import Layout
from fabfile.on_host.lock import Lease, Lock, me
from fabfile.remote.shell import Script, quote
from tests.faults.helpers import host_of
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(60)


def test_the_lease_is_renewed_beside_a_long_command(clean_environment: None, sshd_installed: None) -> None:
    """Else an upload of more than 90 s would lose its lock, though nobody has died."""
    with Sshd(extra="MaxSessions 1") as server:
        host = host_of(server)
        lock = Lock(host, Layout(str(server.new_dir())), me("a long upload"))
        lock.take(Script("Nothing", ":"))
        host.files.warm()  # as each session does: so it is known what the server allows
        eventually(lambda: host.connection.few_sessions, "it is known that there are few")
        owner, lease = Path(lock.owner_file), Lease(lock, every=0.2)
        lease.start()
        try:
            # It ends by itself once a sign of life has come.
            waiting = (
                f"touch -d @1 {quote(str(owner))}; n=0; while [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; "
            )
            waiting += f'[ "$(stat -c %Y {quote(str(owner))})" = 1 ] || exit 0; done; exit 1'
            assert host.shell.run(waiting, check=False).status == 0
        finally:
            lease.stop()
            host.close()
