"""SFTP, and whether it and the shell see the same host."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.lab.faults.declared import SFTP_SERVER, fault, faults, sshd
from tests.support import servers
from tests.support.examined import ExaminedHost
from tests.support.hosts import IsolatedHosts
from tests.support.programs import wrapper
from tests.support.sshd import Sshd


@fault("sftp-missing")
def no_sftp() -> Iterator[ExaminedHost]:
    yield from sshd(sftp=None)


@fault("sftp-broken")
def an_sftp_server_that_is_not_there() -> Iterator[ExaminedHost]:
    yield from sshd(sftp="/usr/lib/no-such-server")


@fault("sftp-broken")
def an_sftp_server_that_talks_nonsense() -> Iterator[ExaminedHost]:
    with wrapper("#!/bin/sh\necho Good morning, this is not SFTP\ncat >/dev/null\n") as program:
        yield from sshd(sftp=str(program))


@fault("sftp-broken")
def an_sftp_server_that_is_silent() -> Iterator[ExaminedHost]:
    with wrapper("#!/bin/sh\nexec cat >/dev/null\n") as program:
        yield from sshd(sftp=str(program))


@fault("sftp-only")
def an_account_for_sftp_only() -> Iterator[ExaminedHost]:
    yield from sshd("ForceCommand internal-sftp")


@fault("sftp-only", mends=False, programs=("proftpd",))  # that server has no shell to give
def a_server_for_sftp_only() -> Iterator[ExaminedHost]:
    with servers.proftpd() as server:
        yield ExaminedHost(server)


@fault("sftp-readonly")
def sftp_that_only_reads() -> Iterator[ExaminedHost]:
    yield from sshd(sftp=f"{SFTP_SERVER} -R")


@fault("sftp-denied")
def sftp_that_tells_no_attributes() -> Iterator[ExaminedHost]:
    yield from sshd(sftp=f"{SFTP_SERVER} -P stat,lstat")


@fault("sftp-denied")
def sftp_that_resolves_no_paths() -> Iterator[ExaminedHost]:
    yield from sshd(sftp=f"{SFTP_SERVER} -P realpath")


@fault("sftp-slow")
def sftp_with_a_limited_rate() -> Iterator[ExaminedHost]:
    relay = Path(__file__).parents[1].joinpath("slow_sftp.py").read_text()
    with wrapper(relay) as program:
        yield from sshd(sftp=str(program))


@fault("view-split", programs=("unshare",))
def two_trees() -> Iterator[ExaminedHost]:
    with Sshd(user="root") as server:
        site, other = server.new_dir(), server.new_dir("other-")
        script = f"mount --bind {other} {server.root} && exec {SFTP_SERVER}"
        with wrapper(f"#!/bin/sh\nexec unshare -m --propagation private sh -c '{script}'\n") as program:
            server.change(f"Subsystem sftp {program}")
            yield ExaminedHost(server, deploy_to=site)


@fault("view-chroot", programs=("unshare",))
def sftp_in_a_chroot() -> Iterator[ExaminedHost]:
    with Sshd(user="root") as server:
        site, system = server.new_dir(), ("usr", "lib", "lib64", "dev", "etc")
        for name in system:
            (server.root / name).mkdir()
        binds = " && ".join(f"mount --rbind /{name} {server.root}/{name}" for name in system)
        script = f"{binds} && exec chroot {server.root} {SFTP_SERVER}"
        with wrapper(f"#!/bin/sh\nexec unshare -m --propagation private sh -c '{script}'\n") as program:
            server.change(f"Subsystem sftp {program}")
            yield ExaminedHost(server, deploy_to=site)


@fault("server-varies", mends=False, programs=("haproxy",))  # the cure is to name each server
def two_servers_behind_one_name() -> Iterator[ExaminedHost]:
    with IsolatedHosts(2) as pair, servers.haproxy([host.port for host in pair.hosts]) as port:
        one, two = pair.hosts
        for end in ("", ".pub"):
            shutil.copy(f"{one._host_key}{end}", f"{two._host_key}{end}")
        two.stop()
        two.start()
        for host in pair.hosts:
            host.give(host.site)
        yield ExaminedHost(one, port=port, deploy_to=pair.common, identity=pair.identity)


@fault("server-varies", mends=False, programs=("haproxy",))
def two_servers_with_keys_of_their_own() -> Iterator[ExaminedHost]:
    with IsolatedHosts(2) as pair, servers.haproxy([host.port for host in pair.hosts]) as port:
        yield ExaminedHost(pair.hosts[0], port=port, deploy_to=pair.common, identity=pair.identity)


faults(
    "sftp-denied",
    {
        f"sftp without {name}": lambda name=name: sshd(sftp=f"{SFTP_SERVER} -P {name}")  # type: ignore[misc]
        for name in ("opendir", "readlink", "read", "rename", "remove")
    },
)


@contextlib.contextmanager
def _lying(lie: str) -> Iterator[Path]:
    with wrapper("") as program:
        (program.parent / "lie").write_text(lie)
        program.write_text(f"#!/bin/sh\nexec /usr/bin/python3 {LYING} {program.parent}/lie\n")
        yield program


def _liar(lie: str) -> Iterator[ExaminedHost]:
    with _lying(lie) as program:
        yield from sshd(sftp=str(program))


LYING = Path(__file__).parents[2] / "support" / "lying_sftp.py"
LIES = ("silent", "ends", "text", "another version", "wrong number", "shorter than it says")
faults("sftp-broken", {f"an sftp server that lies, {lie}": lambda lie=lie: _liar(lie) for lie in LIES})  # type: ignore[misc]


@fault("sftp-broken")
def an_sftp_server_that_greets_first() -> Iterator[ExaminedHost]:
    with wrapper(f"#!/bin/sh\necho Good morning\nexec {SFTP_SERVER}\n") as program:
        yield from sshd(sftp=str(program))
