"""File systems, rights, and what stands in the place of folders."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.lab.faults.declared import SFTP_SERVER, fault, faults, sshd
from tests.support import filesystems, network
from tests.support.examined import ExaminedHost
from tests.support.programs import tools
from tests.support.sshd import Sshd


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


def _closed(name: str, mode: int) -> Iterator[ExaminedHost]:
    """A folder of the account's with these rights."""
    with Sshd() as server:
        path = site = server.new_dir()
        for part in name.split("/") if name else ():
            path = path / part
            path.mkdir(mode=0o700)
            server.give(path)
        path.chmod(mode)
        yield ExaminedHost(server, deploy_to=site)


faults(
    "permissions",
    {
        "a deploy_to that may only be read": lambda: _closed("", 0o555),
        "releases that may only be read": lambda: _closed("releases", 0o555),
        "a folder of locks that may only be read": lambda: _closed(".switchover/lock", 0o500),
        "records that nobody may enter": lambda: _closed(".switchover/releases", 0o600),
    },
)


def _small(name: str, options: str) -> Iterator[ExaminedHost]:
    """A file system of its own under one of the folders."""
    with Sshd() as server:
        path = site = server.new_dir()
        for part in name.split("/"):
            path = path / part
            path.mkdir(mode=0o700)
            server.give(path)
        with filesystems.mounted(path, "-t", "tmpfs", "-o", f"mode=777,{options}", "tmpfs"):
            yield ExaminedHost(server, deploy_to=site)


faults(
    "inodes-full", {"no inodes under releases only": lambda: _small("releases", "nr_inodes=2")}, mends=False
)
faults(
    "disk-full",
    {
        "next to no room under releases": lambda: _small("releases", "size=64k"),
        "next to no room for what arrives": lambda: _small(".switchover/incoming", "size=16k"),
    },
    mends=False,
)


@fault("immutable", programs=("chattr",))
def a_folder_that_only_grows() -> Iterator[ExaminedHost]:
    with disk(ext4) as place:
        releases = Path(place.settings["deploy_to"]) / "releases"
        releases.mkdir()
        place.server.give(releases)
        network.run("chattr", "+a", str(releases))
        try:
            yield place
        finally:
            network.run("chattr", "-a", str(releases))


@fault("quota", mends=False, programs=("mkfs.btrfs", "btrfs"))
def a_quota_under_releases_only() -> Iterator[ExaminedHost]:
    with disk(lambda folder: filesystems.image(folder, "mkfs.btrfs", "-q", size=128 << 20)) as place:
        site = Path(place.settings["deploy_to"])
        network.run("btrfs", "quota", "enable", str(site.parent))
        network.run("btrfs", "subvolume", "create", str(site / "releases"))
        network.run("btrfs", "qgroup", "limit", "64K", str(site / "releases"))
        place.server.give(site / "releases")
        yield place


def _instead(name: str, make: Callable[[Path], object]) -> Iterator[ExaminedHost]:
    """Something else where a folder of a site is due."""
    with Sshd() as server:
        site = server.new_dir()
        make(site / name)
        server.give(site / name)
        yield ExaminedHost(server, deploy_to=site)


faults(
    "deploy-to-odd",
    {
        "a file called releases": lambda: _instead("releases", lambda path: path.touch()),
        "a link called releases that leads nowhere": lambda: _instead(
            "releases", lambda path: path.symlink_to("/mnt/gone")
        ),
        "a file in the place of our folder": lambda: _instead(".switchover", lambda path: path.touch()),
    },
)
