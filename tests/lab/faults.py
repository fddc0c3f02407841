"""Every fault that this machine can make: one knob each, and the finding that has to name it.

A fault that is not mended by its own advice (`mends=False`) says why beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from fabfile.site.lock import LEASE
from tests.lab.sshd10 import Sshd10
from tests.support import filesystems, network, servers
from tests.support.accounts import account
from tests.support.examined import ExaminedHost
from tests.support.hosts import IsolatedHosts
from tests.support.programs import tools, wrapper
from tests.support.sshd import Sshd

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
IDLE = 3  # seconds after which the impatient servers and networks of this lab hang up
WATCH = 6.0  # seconds that the diagnosis watches idle connections here


@dataclass(frozen=True)
class Fault:
    """expects: the finding. programs: what must be installed. deep: seconds to watch idle
    connections. slow: not tried by every run of the tests.
    """

    name: str
    expects: str
    make: Callable[[], AbstractContextManager[ExaminedHost]]
    mends: bool
    deep: float | None
    programs: tuple[str, ...]
    slow: bool

    @property
    def missing(self) -> str:
        """What this machine lacks for it, or ""."""
        if os.geteuid() != 0:
            return "root"
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return ", ".join(name for name in self.programs if not shutil.which(name, path=path))


FAULTS: list[Fault] = []


def fault(
    expects: str,
    *,
    mends: bool = True,
    deep: float | None = None,
    programs: tuple[str, ...] = (),
    slow: bool = False,
) -> Callable[[Callable[[], Iterator[ExaminedHost]]], Callable[[], Iterator[ExaminedHost]]]:
    """Adds a generator that yields the Place to FAULTS."""

    def declare(make: Callable[[], Iterator[ExaminedHost]]) -> Callable[[], Iterator[ExaminedHost]]:
        name = make.__name__.replace("_", " ")
        FAULTS.append(Fault(name, expects, contextlib.contextmanager(make), mends, deep, programs, slow))
        return make

    return declare


def sshd(extra: str = "", **how: object) -> Iterator[ExaminedHost]:
    """A server with these lines, and a site on it."""
    with Sshd(extra=extra, **how) as server:  # type: ignore[arg-type]
        yield ExaminedHost(server, deploy_to=server.new_dir())


# -- connect: what is wrong lies elsewhere than in a line of the server's, so nothing is mended ----------


@fault("dns", mends=False)
def a_name_that_does_not_resolve() -> Iterator[ExaminedHost]:
    yield ExaminedHost(host="no-such-host.invalid", port=22, user="deploy")


@fault("tcp-refused", mends=False)
def a_port_where_nobody_listens() -> Iterator[ExaminedHost]:
    yield ExaminedHost(port=servers.free_port(), user="deploy")


@fault("tcp-filtered", mends=False, programs=("ip", "nft"))
def a_firewall_that_swallows() -> Iterator[ExaminedHost]:
    with network.routed(network.FILTERING) as server:
        yield ExaminedHost(server, namespace=server.client, ssh={"connect_timeout": 2})


@fault("host-unreachable", mends=False, programs=("ip", "nft"))
def a_host_that_is_down() -> Iterator[ExaminedHost]:
    with network.routed(network.OPEN) as server:
        yield ExaminedHost(server, host="10.99.2.77", namespace=server.client, ssh={"connect_timeout": 8})


@fault("not-ssh", mends=False)
def another_service_on_the_port() -> Iterator[ExaminedHost]:
    with servers.speaks(b"220 ftp ready\r\n") as port:
        yield ExaminedHost(port=port, user="deploy", ssh={"connect_timeout": 2})


@fault("banner-silent", mends=False)
def a_server_that_says_nothing() -> Iterator[ExaminedHost]:
    with servers.speaks(b"") as port:
        yield ExaminedHost(port=port, user="deploy", ssh={"connect_timeout": 2})


@fault("banner-refused", mends=False)
def a_server_that_hangs_up() -> Iterator[ExaminedHost]:
    with servers.speaks(b"", hang_up=True) as port:
        yield ExaminedHost(port=port, user="deploy")


@fault("banner-refused", mends=False)
def a_penalty_for_our_address() -> Iterator[ExaminedHost]:
    with servers.speaks(b"Not allowed at this time\r\n", hang_up=True) as port:
        yield ExaminedHost(port=port, user="deploy")


@fault("banner-refused")
def too_many_logins_under_way() -> Iterator[ExaminedHost]:
    with Sshd(extra="MaxStartups 1") as server, contextlib.ExitStack() as stack:
        place = ExaminedHost(server)
        stack.callback(place.close)
        # The connection that saw the server start may still count: ours has to be the one that is greeted.
        deadline = time.monotonic() + 10
        while (waiting := socket.create_connection((server.host, server.port), 5)).recv(4) != b"SSH-":
            waiting.close()
            assert time.monotonic() < deadline, "nobody is let in"
        stack.callback(waiting.close)
        yield place


@fault("kex-mismatch")
def algorithms_of_another_age() -> Iterator[ExaminedHost]:
    yield from sshd("KexAlgorithms diffie-hellman-group14-sha1")


@fault("hostkey-changed")
def another_host_key() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        shutil.copy(server.known_hosts, place.folder / "known_hosts")
        server.rekey()
        yield place


@fault("hostkey-unknown")
def an_unknown_host_key() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, ssh={"host_keys": "strict"})


@fault("auth-failed", mends=False)  # its advice, ssh-copy-id, needs another way in
def a_key_that_is_not_authorized() -> Iterator[ExaminedHost]:
    with Sshd() as server, Sshd() as other:
        yield ExaminedHost(server, identity=other.identity)


@fault("auth-too-many")
def more_keys_than_the_server_takes() -> Iterator[ExaminedHost]:
    with Sshd(extra="MaxAuthTries 2") as server:
        home = server.new_dir("home-")
        (home / ".ssh").mkdir(mode=0o700)
        for kind in ("rsa", "ecdsa"):
            network.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", f"{home}/.ssh/id_{kind}")
        shutil.copy(server.identity, home / ".ssh/id_ed25519")
        yield ExaminedHost(server, home=home)


@fault("account")
def an_account_that_has_expired() -> Iterator[ExaminedHost]:
    with account() as user, Sshd(extra="UsePAM yes", user=user) as server:
        network.run("chage", "-E", "1", user)
        yield ExaminedHost(server)


@fault("account", mends=False)  # the client can't know the directory
def a_chroot_of_the_wrong_owner() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        folder = server.new_dir("chroot-")
        server.change(f"ChrootDirectory {folder}")
        yield ExaminedHost(server)


# -- shell -----------------------------------------------------------------------------------------------


@fault("shell-restricted")
def a_restricted_shell() -> Iterator[ExaminedHost]:
    with account("/bin/rbash") as user:
        yield from sshd(user=user)


@fault("shell-restricted")
def an_account_without_a_shell() -> Iterator[ExaminedHost]:
    with account("/usr/sbin/nologin") as user:
        yield from sshd(user=user)


@fault("shell-restricted")
def a_shell_that_only_says_no() -> Iterator[ExaminedHost]:
    with account("/bin/false") as user:
        yield from sshd(user=user)


@fault("shell-forced")
def a_forced_command() -> Iterator[ExaminedHost]:
    yield from sshd("ForceCommand echo hi")


@fault("shell-noise")
def a_shell_that_prints() -> Iterator[ExaminedHost]:
    with account() as user:
        _noisy(user)
        yield from sshd(user=user)


@fault("shell-noise")
def a_shell_that_prints_into_sftp() -> Iterator[ExaminedHost]:
    with account() as user:
        _noisy(user)
        yield from sshd(user=user, sftp=SFTP_SERVER)


def _noisy(user: str) -> None:
    Path(f"/home/{user}/.bashrc").write_text("echo welcome to this host\n")


@fault("home-missing")
def no_home_directory() -> Iterator[ExaminedHost]:
    with account(home=False) as user:
        yield from sshd(user=user)


# -- SFTP ------------------------------------------------------------------------------------------------


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
    relay = Path(__file__).with_name("slow_sftp.py").read_text()
    with wrapper(relay) as program:
        yield from sshd(sftp=str(program))


# -- view ------------------------------------------------------------------------------------------------


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


# -- limits and idleness ---------------------------------------------------------------------------------


@fault("max-sessions")
def one_session_at_a_time() -> Iterator[ExaminedHost]:
    yield from sshd("MaxSessions 1")


@fault("peer-lossy", mends=False, slow=True, programs=("ip", "nft"))
def a_network_that_loses() -> Iterator[ExaminedHost]:
    with network.routed(network.LOSSY) as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), namespace=server.client)


@fault("idle-channel")
def idle_channels_are_closed_say_the_settings() -> Iterator[ExaminedHost]:
    yield from sshd(f"ChannelTimeout session:*={IDLE}s")


@fault("idle-channel", deep=WATCH, slow=True)
def idle_channels_are_closed() -> Iterator[ExaminedHost]:
    yield from sshd(f"ChannelTimeout session:*={IDLE}s")


@fault("idle-server", deep=WATCH, slow=True)
def connections_without_a_session_are_dropped() -> Iterator[ExaminedHost]:
    yield from sshd(f"UnusedConnectionTimeout {IDLE}s")


@fault("idle-balancer", deep=WATCH, programs=("haproxy",))
def a_load_balancer_that_hangs_up() -> Iterator[ExaminedHost]:
    with Sshd() as server, servers.haproxy([server.port], idle=IDLE) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@fault("idle-nat", deep=WATCH, programs=("ip", "nft"), slow=True)
def a_nat_that_forgets() -> Iterator[ExaminedHost]:
    with network.routed(network.FORGETFUL) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("idle-nat", deep=WATCH, programs=("ip", "nft"))
def a_nat_that_resets() -> Iterator[ExaminedHost]:
    with network.routed(network.RESETTING) as server:
        yield ExaminedHost(server, namespace=server.client)


# -- storage ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(mount: Callable[[Path], AbstractContextManager[Path]], **settings: object) -> Iterator[ExaminedHost]:
    """A site on a file system of its own; `server.root/disk` is where it is mounted."""
    with Sshd() as server, mount(server.root / "disk") as folder:
        site = folder / "site"
        site.mkdir()
        yield ExaminedHost(server, deploy_to=server.give(site), **settings)  # type: ignore[arg-type]


def ext4(folder: Path) -> AbstractContextManager[Path]:
    return filesystems.image(folder, "mkfs.ext4", "-q", "-m", "0")


@fault("disk-full", mends=False)  # what to remove is a person's decision
def a_full_disk() -> Iterator[ExaminedHost]:
    with disk(ext4) as place:
        filesystems.fill_up(Path(place.settings["deploy_to"]).parent)
        yield place


@fault("inodes-full", mends=False)
def no_inodes() -> Iterator[ExaminedHost]:
    with disk(
        lambda folder: filesystems.mounted(folder, "-t", "tmpfs", "-o", "nr_inodes=6", "tmpfs")
    ) as place:
        yield place


@fault("quota", mends=False, programs=("mkfs.btrfs", "btrfs"))
def a_quota_that_is_used_up() -> Iterator[ExaminedHost]:
    with disk(lambda folder: filesystems.image(folder, "mkfs.btrfs", "-q", size=128 << 20)) as place:
        site = Path(place.settings["deploy_to"])
        network.run("btrfs", "quota", "enable", str(site.parent))
        site.rmdir()
        network.run("btrfs", "subvolume", "create", str(site))
        network.run("btrfs", "qgroup", "limit", "512K", str(site))
        place.server.give(site)
        yield place


@fault("read-only")
def a_file_system_mounted_read_only() -> Iterator[ExaminedHost]:
    with disk(ext4) as place:
        network.run("mount", "-o", "remount,ro", str(Path(place.settings["deploy_to"]).parent))
        yield place


@fault("cross-device")
def a_cache_on_another_file_system() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        for name in ("releases", "cache"):
            (site / name).mkdir()
            server.give(site / name)
        with filesystems.mounted(site / "cache", "-t", "tmpfs", "-o", "mode=777", "tmpfs"):
            yield ExaminedHost(server, deploy_to=site)


@fault("no-reflink", programs=("mkfs.xfs",))
def reflinks_wanted_and_not_to_be_had() -> Iterator[ExaminedHost]:
    make = ("mkfs.xfs", "-q", "-m", "reflink=0")
    with disk(lambda folder: filesystems.image(folder, *make, size=320 << 20), copy="reflink") as place:
        yield place


@fault("no-symlink", programs=("mkfs.exfat", "mount.exfat-fuse"))
def a_file_system_without_symlinks() -> Iterator[ExaminedHost]:
    with Sshd() as server, filesystems.exfat(server.root / "disk", server.user) as folder:
        (folder / "site").mkdir()
        yield ExaminedHost(server, deploy_to=folder / "site")


@fault("no-atomic-rename")
def no_way_to_replace_a_link() -> Iterator[ExaminedHost]:
    lie = '#!/bin/sh\ncase "$1" in -*T*) echo "unknown option -T" >&2; exit 1 ;; esac\nexec /bin/mv "$@"\n'
    with tools(fake={"mv": lie}) as folder:
        yield from sshd(f"SetEnv PATH={folder}", sftp=f"{SFTP_SERVER} -P posix-rename")


@fault("permissions")
def a_root_that_is_somebody_elses() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, deploy_to=server.folder / "srv/shop")


@fault("permissions")
def releases_that_are_somebody_elses() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "releases").mkdir()
        yield ExaminedHost(server, deploy_to=site)


# -- layout ----------------------------------------------------------------------------------------------


@fault("current-not-link")
def a_directory_called_current() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "current").mkdir()
        yield ExaminedHost(server, deploy_to=site)


@fault("layout-mixed")
def somebody_elses_deployments() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        for name in ("repo", "releases/20240101120000", "shared"):
            (site / name).mkdir(parents=True)
            server.give(site / name)
        server.give(site / "releases")
        (site / "revisions.log").write_text("Branch main deployed as release 20240101120000 by joe\n")
        (site / "current").symlink_to("releases/20240101120000")
        yield ExaminedHost(server, deploy_to=site)


@fault("lock-stale")
def a_lock_that_nobody_holds() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        lock = site / ".switchover/lock/3"
        lock.mkdir(parents=True)
        owner = {"user": "joe", "machine": "laptop", "pid": 1, "time": "2026-01-01T00:00:00+00:00",
                 "command": "fab deploy", "token": "0" * 24, "place": ""}  # fmt: skip
        (lock / "owner").write_text(json.dumps(owner))
        long_ago = time.time() - 10 * LEASE
        os.utime(lock / "owner", (long_ago, long_ago))
        for path in (site / ".switchover", site / ".switchover/lock", lock, lock / "owner"):
            server.give(path)
        yield ExaminedHost(server, deploy_to=site)


@fault("release-broken", mends=False)  # it takes a deployment
def a_live_release_that_is_gone() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "releases").mkdir()
        server.give(site / "releases")
        (site / "current").symlink_to("releases/20260101120000")
        yield ExaminedHost(server, deploy_to=site)


# -- configuration and tools -----------------------------------------------------------------------------


# Ends everything that was started in this session, as logind does with KillUserProcesses=yes.
REAPER = """#!/bin/bash
sh -c "$SSH_ORIGINAL_COMMAND"; status=$?
for p in /proc/[0-9]*; do
  pid=${p#/proc/}
  case $(tr '\\0' '\\n' < $p/environ 2>/dev/null) in
    *"SSH_CONNECTION=$SSH_CONNECTION"*)
      case $(cat $p/comm) in run|sftp-server) ;; *) kill -9 $pid ;; esac ;;
  esac
done 2>/dev/null
exit $status
"""


@fault("jobs-killed-at-logout", mends=False)  # there is no logind here to be told
def a_host_that_ends_what_sessions_leave() -> Iterator[ExaminedHost]:
    with wrapper(REAPER) as program:
        yield from sshd(f"ForceCommand {program}", sftp=SFTP_SERVER)


@fault("tool-missing", mends=False)  # installing it again would not put it on this PATH
def a_host_without_tar() -> Iterator[ExaminedHost]:
    with tools(without=("tar",)) as folder, Sshd(extra=f"SetEnv PATH={folder}") as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), transfer="stream")


@fault("clock-skew", mends=False)  # setting this machine's clock is not for a test
def a_clock_that_is_slow() -> Iterator[ExaminedHost]:
    slow = '#!/bin/sh\nexec /bin/date -d "10 minutes ago" "$@"\n'
    with tools(fake={"date": slow}) as folder:
        yield from sshd(f"SetEnv PATH={folder}")


# -- healthy ones ----------------------------------------------------------------------------------------

CONTROLS: dict[str, Callable[[], AbstractContextManager[ExaminedHost]]] = {
    "OpenSSH": contextlib.contextmanager(lambda: sshd()),
    "OpenSSH, external sftp-server": contextlib.contextmanager(lambda: sshd(sftp=SFTP_SERVER)),
}


def control(name: str) -> Callable[[Callable[[], Iterator[ExaminedHost]]], None]:
    """Adds a healthy place to CONTROLS."""

    def declare(make: Callable[[], Iterator[ExaminedHost]]) -> None:
        CONTROLS[name] = contextlib.contextmanager(make)

    return declare


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
    with Sshd10() as server:
        yield ExaminedHost(server, deploy_to=server.new_dir())


@control("OpenSSH through a NAT")
def routed() -> Iterator[ExaminedHost]:
    with network.routed(network.OPEN) as server:
        yield ExaminedHost(server, deploy_to=server.new_dir(), namespace=server.client)
