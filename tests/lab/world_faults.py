"""Faults as people met them, beside those of faults.py: start-up files, limits, mounts, weak networks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.lab.faults import SFTP_SERVER, disk, ext4, fault, sshd
from tests.support import filesystems, network
from tests.support.accounts import account
from tests.support.examined import ExaminedHost
from tests.support.programs import wrapper
from tests.support.proxy import Proxy
from tests.support.relay import Cut, relay
from tests.support.sshd import Sshd

# -- start-up files and forced commands ------------------------------------------------------------------


@contextlib.contextmanager
def starting_with(
    text: str, *, shell: str = "/bin/bash", file: str = ".bashrc", **how: object
) -> Iterator[ExaminedHost]:
    """An account with this start-up file."""
    with account(shell) as user:
        Path(f"/home/{user}/{file}").write_text(text)
        with Sshd(user=user, **how) as server:  # type: ignore[arg-type]
            yield ExaminedHost(server, deploy_to=server.new_dir())


@fault("shell-startup")
def a_start_up_file_that_exits() -> Iterator[ExaminedHost]:
    with starting_with("exit 0\n") as place:
        yield place


@fault("shell-startup", slow=True)
def a_start_up_file_that_exits_before_sftp_too() -> Iterator[ExaminedHost]:
    with starting_with("exit 0\n", sftp=SFTP_SERVER) as place:
        yield place


@fault("shell-startup")
def a_start_up_file_that_fails() -> Iterator[ExaminedHost]:
    with starting_with("[ -f /opt/site/env ] || exit 3\n") as place:
        yield place


@fault("shell-startup", slow=True)
def a_start_up_file_that_sleeps() -> Iterator[ExaminedHost]:
    with starting_with("sleep 30\n") as place:
        yield place


@fault("shell-startup", slow=True)
def a_start_up_file_that_takes_its_time() -> Iterator[ExaminedHost]:
    with starting_with("sleep 3\n") as place:
        yield place


@fault("shell-startup")
def a_start_up_file_that_starts_another_program() -> Iterator[ExaminedHost]:
    with starting_with("exec cat\n") as place:
        yield place


@fault("shell-startup")
def a_start_up_file_that_empties_the_path() -> Iterator[ExaminedHost]:
    with starting_with("export PATH=\n") as place:
        yield place


@fault("shell-forced")
def a_forced_command_that_prints_the_command() -> Iterator[ExaminedHost]:
    yield from sshd('ForceCommand echo "$SSH_ORIGINAL_COMMAND"')


@fault("shell-noise")
def a_forced_command_that_logs_and_runs_ours() -> Iterator[ExaminedHost]:
    with wrapper('#!/bin/sh\necho "audit: $(date)"\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n') as program:
        yield from sshd(f"ForceCommand {program}")


# -- limits ----------------------------------------------------------------------------------------------


@fault("limits", mends=False)  # PAM does not apply limits.conf to this sshd
def few_open_files() -> Iterator[ExaminedHost]:
    with starting_with("ulimit -n 14\n") as place:
        yield place


@fault("limits", mends=False)
def few_processes() -> Iterator[ExaminedHost]:
    with starting_with("ulimit -u 12\n") as place:
        yield place


@fault("limits", mends=False)
def next_to_no_processes() -> Iterator[ExaminedHost]:
    with starting_with("ulimit -u 2\n") as place:
        yield place


@fault("umask")
def a_umask_that_shuts_others_out() -> Iterator[ExaminedHost]:
    with starting_with("umask 077\n") as place:
        yield place


@fault("umask")
def a_umask_that_shuts_everybody_out() -> Iterator[ExaminedHost]:
    with starting_with("umask 0777\n") as place:
        yield place


# -- storage ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hanging(name: str) -> Iterator[ExaminedHost]:
    """A site with a mount in it whose server does not answer any more."""
    with Sshd() as server:
        site = server.new_dir()
        for folder in {"shared", name.split("/")[0]}:
            (site / folder).mkdir(exist_ok=True)
            server.give(site / folder)
        with filesystems.exfat(site / name, server.user) as folder:
            found = subprocess.run(
                ["pgrep", "-f", f"mount.exfat-fuse.*{folder}"], capture_output=True, text=True
            )
            pids = [int(pid) for pid in found.stdout.split()]
            assert pids, "the file system has no process"
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                yield ExaminedHost(server, deploy_to=site)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGTERM)  # what hung there keeps the mount busy for a moment yet


@fault(
    "path-hangs", mends=False, programs=("mount.exfat-fuse", "mkfs.exfat"), slow=True
)  # the mount is needed to the end
def a_mount_in_shared_that_hangs() -> Iterator[ExaminedHost]:
    with hanging("shared") as place:
        yield place


@fault("path-hangs", mends=False, programs=("mount.exfat-fuse", "mkfs.exfat"))
def a_mount_for_releases_that_hangs() -> Iterator[ExaminedHost]:
    with hanging("releases") as place:
        yield place


@fault("deploy-to-odd")
def a_file_called_deploy_to() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir() / "shop"
        site.write_text("an archive, perhaps\n")
        yield ExaminedHost(server, deploy_to=server.give(site))


@fault("deploy-to-odd")
def a_link_that_leads_nowhere_called_deploy_to() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir() / "shop"
        site.symlink_to("/mnt/gone/shop")
        yield ExaminedHost(server, deploy_to=site)


@fault("immutable", programs=("chattr",))
def a_folder_that_is_locked() -> Iterator[ExaminedHost]:
    with disk(ext4) as place:
        site = Path(place.settings["deploy_to"])
        network.run("chattr", "+i", str(site))
        try:
            yield place
        finally:
            network.run("chattr", "-i", str(site))


@fault("permissions")
def a_folder_of_ours_that_is_roots() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        for name in (".switchover", ".switchover/jobs"):
            (site / name).mkdir(mode=0o700)
        server.give(site / ".switchover")
        yield ExaminedHost(server, deploy_to=site)


@fault("read-only")
def releases_mounted_read_only() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "releases").mkdir()
        server.give(site / "releases")
        with filesystems.mounted(
            site / "releases", "-t", "tmpfs", "-o", "mode=777,size=4m", "tmpfs"
        ) as folder:
            network.run("mount", "-o", "remount,ro", str(folder))
            yield ExaminedHost(server, deploy_to=site)


@fault("disk-full", mends=False)  # what to remove is a person's decision
def a_full_disk_under_releases_only() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        site = server.new_dir()
        (site / "releases").mkdir()
        with filesystems.mounted(
            site / "releases", "-t", "tmpfs", "-o", "mode=777,size=2m", "tmpfs"
        ) as folder:
            filesystems.fill_up(folder)
            yield ExaminedHost(server, deploy_to=site)


# -- networks --------------------------------------------------------------------------------------------


@fault("link-cut", mends=False)
def connections_that_are_cut_after_60_kb() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(60_000)) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@fault("link-cut", mends=False, slow=True)
def connections_that_are_cut_after_20_kb() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(20_000)) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


@fault("link-cut", mends=False, slow=True)
def connections_that_fall_silent_after_300_kb() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(300_000, how="silence")) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir())


LARGE_VANISH = """
table ip tunnel {
  chain forward { type filter hook forward priority 0; policy accept; meta length > 1400 drop; }
}
"""


@fault("mtu", mends=False, programs=("ip", "nft"), slow=True)
def a_tunnel_that_swallows_large_packets() -> Iterator[ExaminedHost]:
    with network.routed(LARGE_VANISH) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("mtu", mends=False, programs=("ip", "nft"))
def a_tunnel_that_swallows_the_key_exchange() -> Iterator[ExaminedHost]:
    with network.routed(LARGE_VANISH.replace("1400", "1000")) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("slow-link", mends=False, slow=True)
def a_second_of_round_trip() -> Iterator[ExaminedHost]:
    with Sshd() as server, Proxy(server.port, delay=0.5) as proxy:
        yield ExaminedHost(server, port=proxy.port, deploy_to=server.new_dir(), ssh={"connect_timeout": 20})


@fault("slow-link", mends=False, slow=True)
def ten_kilobytes_a_second() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, rate=10_000) as port:
        yield ExaminedHost(server, port=port, deploy_to=server.new_dir(), ssh={"connect_timeout": 20})


# -- ways in ---------------------------------------------------------------------------------------------


@fault("key-file", mends=False)
def a_key_that_is_not_there() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, identity=server.folder / "id_gone")


@fault("key-file", mends=False)
def the_public_half_of_a_key() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        yield ExaminedHost(server, identity=server.identity.with_suffix(".pub"))


@fault("key-file", mends=False)
def a_key_with_a_passphrase() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        network.run("ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(server.identity))
        yield ExaminedHost(server)


@fault("second-factor")
def a_password_wanted_besides() -> Iterator[ExaminedHost]:
    yield from sshd("PasswordAuthentication yes\nAuthenticationMethods publickey,password")


@fault("proxy-command", mends=False)
def a_proxy_command_that_is_not_there() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        (place.folder / "ssh_config").write_text("Host *\n  ProxyCommand /no/such/program %h %p\n")
        yield place


@fault("proxy-command", mends=False)
def a_proxy_command_that_fails() -> Iterator[ExaminedHost]:
    with Sshd() as server:
        place = ExaminedHost(server)
        (place.folder / "ssh_config").write_text("Host *\n  ProxyCommand sh -c 'echo no >&2; exit 3'\n")
        yield place


@contextlib.contextmanager
def jumping(jump: Sshd, server: Sshd, *, host: str = "", port: int = 0) -> Iterator[ExaminedHost]:
    """The way to `server` through `jump`; or to another host and port from there."""
    place = ExaminedHost(server, host=host, port=port)
    (place.folder / "ssh_config").write_text(
        f"Host bastion\n  HostName 127.0.0.1\n  Port {jump.port}\n  User {jump.user}\n"
        f"  IdentityFile {jump.identity}\nHost * !bastion\n  ProxyJump bastion\n"
    )
    yield place


@fault("jump", mends=False)  # the line belongs to the jump host's sshd
def a_jump_host_that_forbids_it() -> Iterator[ExaminedHost]:
    with Sshd(extra="AllowTcpForwarding no") as jump, Sshd() as server, jumping(jump, server) as place:
        yield place


@fault("jump", mends=False)
def a_jump_host_that_is_down() -> Iterator[ExaminedHost]:
    with Sshd() as jump, Sshd() as server:
        jump.stop()
        with jumping(jump, server) as place:
            yield place


@fault("jump", mends=False)
def a_host_that_the_jump_host_can_not_find() -> Iterator[ExaminedHost]:
    with Sshd() as jump, Sshd() as server, jumping(jump, server, host="no-such-host.invalid") as place:
        yield place


@fault("slow-login", slow=True)
def a_login_that_takes_eight_seconds() -> Iterator[ExaminedHost]:
    folder = Path(tempfile.mkdtemp(prefix="switchover-keys-", dir="/var/lib"))
    folder.chmod(0o755)
    try:
        with Sshd() as server:
            program = folder / "keys"
            program.write_text(f"#!/bin/sh\nsleep 8\ncat {server.folder}/authorized_keys\n")
            program.chmod(0o755)
            server.change("AuthorizedKeysCommandUser root")
            server.change(f"AuthorizedKeysCommand {program}")
            server.change("AuthorizedKeysFile none")
            yield ExaminedHost(server, deploy_to=server.new_dir())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@fault("not-ssh", mends=False)
def a_web_server_on_the_port() -> Iterator[ExaminedHost]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ExaminedHost(port=server.server_address[1], user="deploy", ssh={"connect_timeout": 2})
        server.shutdown()


REJECTING = """
table ip firewall {
  chain forward { type filter hook forward priority 0; policy accept;
    tcp dport 1-65535 reject with icmp admin-prohibited; }
}
"""
RATIONED = """
table ip rationed {
  chain forward { type filter hook forward priority 0; policy accept;
    tcp flags & (fin | syn | rst | ack) == syn limit rate over 1/minute burst 1 packets drop; }
}
"""


@fault("tcp-filtered", mends=False, programs=("ip", "nft"))
def a_firewall_that_rejects() -> Iterator[ExaminedHost]:
    with network.routed(REJECTING) as server:
        yield ExaminedHost(server, namespace=server.client)


@fault("rate-limited", mends=False, programs=("ip", "nft"), slow=True)
def one_new_connection_a_minute() -> Iterator[ExaminedHost]:
    with network.routed(RATIONED) as server:
        yield ExaminedHost(server, namespace=server.client, deploy_to=server.new_dir())


@fault("link-cut", mends=False)
def connections_that_are_cut_in_the_login() -> Iterator[ExaminedHost]:
    with Sshd() as server, relay(server.port, Cut(5_000)) as port:
        yield ExaminedHost(server, port=port)


@fault("auth-failed", mends=False)
def an_account_that_is_not_allowed() -> Iterator[ExaminedHost]:
    yield from sshd("AllowUsers somebody-else")
