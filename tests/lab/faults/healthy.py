"""Healthy hosts, each of which must raise no alarm."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab import sshd10
from tests.lab.faults.declared import CONTROLS, SFTP_SERVER, Control, control, sshd
from tests.lab.sshd10 import Sshd10
from tests.support import host_matrix as matrix
from tests.support import network, servers
from tests.support.examined import ExaminedHost
from tests.support.sshd import Sshd

control("OpenSSH")(sshd)
control("OpenSSH, external sftp-server")(lambda: sshd(sftp=SFTP_SERVER))


@control("OpenSSH with a site")
def deployed() -> Iterator[ExaminedHost]:
    for place in sshd():
        place.deploy()
        yield place


@control("Dropbear")
def dropbear_server() -> Iterator[ExaminedHost]:
    with servers.dropbear() as server, Sshd() as other:
        yield ExaminedHost(server, deploy_to=other.new_dir())


@control("asyncssh, embedded")
def embedded_server() -> Iterator[ExaminedHost]:
    from fabfile.demo.server import Server

    with Sshd() as folders, Server(home=folders.folder) as server:
        yield ExaminedHost(server, deploy_to=folders.new_dir())


@control("OpenSSH behind HAProxy")
def balanced() -> Iterator[ExaminedHost]:
    with Sshd() as server, servers.haproxy([server.port]) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@control("OpenSSH 10")
def openssh_10() -> Iterator[ExaminedHost]:
    if missing := sshd10.missing():
        raise RuntimeError(f"needs {missing}")
    with Sshd10() as server:
        yield ExaminedHost(server, deploy_to=server.new_dir())


@control("OpenSSH through a NAT")
def routed() -> Iterator[ExaminedHost]:
    with network.routed(network.OPEN) as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), namespace=server.client)


CONTROLS["busybox's programs only"] = Control(lambda: matrix.bare(matrix.boxed("busybox", "busybox")))
# It has no gzip, and neither awk nor tr, which deployments do without.
CONTROLS["toybox's programs only"] = Control(
    lambda: matrix.bare(matrix.boxed("toybox", "mksh")), frozenset({"tool-missing"})
)

# What is true of hosts that deployments work on nevertheless; `internal-sftp` is no program for a shell.
TRUE = {
    "start-up file: noise": ("shell-noise",), "start-up file: two lines": ("shell-noise",),
    "start-up file: trap": ("shell-noise",), "start-up file: PATH=/opt": ("shell-startup",),
    "start-up file: PATH empty": ("shell-startup",), "start-up file: umask 077": ("umask",),
    "start-up file: umask 027": ("umask",), "start-up file: HOME elsewhere": ("home-missing",),
    "start-up file: read": ("shell-startup",), "start-up file: sleep 1": ("shell-startup",),
    "sshd: MaxSessions 1": ("max-sessions",), "sshd: MaxSessions 2": ("max-sessions",),
    "sshd: MaxSessions 3": ("max-sessions",),
    "sshd: ForceCommand that runs ours": ("sftp-broken",), "no SFTP": ("sftp-missing",),
}  # fmt: skip


def _tried_elsewhere() -> None:
    """The hosts of docs/where-it-works.md."""
    for row in matrix.rows():
        if row.works and ", " not in row.name:
            told = ("tool-missing",) if row.name.startswith("without ") else TRUE.get(row.name, ())
            CONTROLS[row.name] = Control(row.make, frozenset(told))


_tried_elsewhere()
