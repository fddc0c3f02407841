"""SFTP, sessions, file systems, rights, and what stands in deploy_to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from random import Random

from tests.lab.unseen.kinds import Claim, claim, kind
from tests.lab.unseen.recipe import Host, Recipe
from tests.support import filesystems, network
from tests.support.programs import wrapper

EXTERNAL = "/usr/lib/openssh/sftp-server"
LYING = Path(__file__).parents[3] / "support" / "lying_sftp.py"
SLOW = Path(__file__).parents[2] / "slow_sftp.py"

# -- sessions --------------------------------------------------------------------------------------------


@kind("sessions")
def few_sessions(draw: Random, recipe: Recipe) -> Claim:
    count = draw.randint(1, 4)
    recipe.lines.append(f"MaxSessions {count}")
    return claim(str(count), "max-sessions", quiet=count == 4)


@kind("sessions")
def impatient_settings(draw: Random, recipe: Recipe) -> Claim:
    seconds = draw.randint(2, 90)
    keyword, expected = draw.choice((
        ("ChannelTimeout session:*=", "idle-channel"), ("ChannelTimeout *=", "idle-channel"),
        ("UnusedConnectionTimeout ", "idle-server"), ("ChannelTimeout session:command=", "idle-channel"),
        ("ChannelTimeout session:subsystem:sftp=", "idle-channel"),
    ))  # fmt: skip
    recipe.lines.append(f"{keyword}{seconds}s")
    return claim(f"{keyword}{seconds}s", expected, quiet=seconds > 60)


@kind("sessions", weight=1)
def impatient_settings_that_are_watched(draw: Random, recipe: Recipe) -> Claim:
    recipe.deep = 8.0
    seconds = draw.randint(2, 6)
    line, expected = draw.choice((
        (f"ChannelTimeout session:*={seconds}s", "idle-channel"),
        (f"UnusedConnectionTimeout {seconds}s", "idle-server"),
    ))  # fmt: skip
    recipe.lines.append(line)
    return claim(line, expected)


# -- SFTP ------------------------------------------------------------------------------------------------

REQUESTS = ("open", "close", "read", "write", "lstat", "fstat", "setstat", "fsetstat", "opendir", "readdir",
            "remove", "mkdir", "rmdir", "realpath", "stat", "rename", "readlink", "symlink", "posix-rename",
            "statvfs", "hardlink", "fsync")  # fmt: skip
NOT_NEEDED = {"fstat", "hardlink", "fsync", "statvfs", "close", "posix-rename", "setstat"}


def _requires(draw: Random, recipe: Recipe) -> str:
    if draw.random() < 0.3:
        recipe.settings.setdefault("ssh", {})["sftp"] = "require"
        return "; sftp: require"
    return ""


@kind("sftp", weight=4)
def sftp_without_some_requests(draw: Random, recipe: Recipe) -> Claim:
    names = draw.sample(REQUESTS, draw.randint(1, 3))
    recipe.sftp = f"{EXTERNAL} -P {','.join(names)}"
    text = f"-P {','.join(names)}{_requires(draw, recipe)}"
    also = ("sftp-readonly",) if {"open", "write", "mkdir"} & set(names) else ()
    return claim(text, "sftp-denied", *also, quiet=set(names) <= NOT_NEEDED)


@kind("sftp", weight=2)
def sftp_with_some_options(draw: Random, recipe: Recipe) -> Claim:
    options, expected = draw.choice((
        ("-R", ("sftp-readonly",)), ("-d /", ()), ("-u 0077", ()), ("-u 0777", ()),
        ("-p realpath,stat,lstat,opendir,readdir,close", ("sftp-denied", "sftp-readonly")),
        ("-p open,read,close,stat,lstat,fstat,realpath,readlink,opendir,readdir", ("sftp-readonly",
        "sftp-denied")),
        ("-Z", ("sftp-broken",)), ("-d /opt/no/such", ("sftp-broken", "sftp-denied")), ("-l DEBUG3 -e", ()),
    ))  # fmt: skip
    recipe.sftp = f"{draw.choice((EXTERNAL, 'internal-sftp'))} {options}"
    return claim(recipe.sftp + _requires(draw, recipe), *expected, quiet=not expected)


BROKEN = (
    "echo Good morning; exec {s}", "exec cat", "cat >/dev/null", "exit {n}", "sleep 60", "exec /opt/no/such",
    "echo hello", "kill -9 $$", "timeout {n} {s}", "head -c {n}00 | {s}", "{s} | head -c {n}00",
    "yes", "exec {s} >/dev/null", "exec {s} </dev/null", "sleep {n}; exec {s}",
)  # fmt: skip


@kind("sftp", weight=4)
def an_sftp_server_that_breaks(draw: Random, recipe: Recipe) -> Claim:
    text, number = draw.choice(BROKEN), draw.randint(1, 9)
    line = text.replace("{n}", str(number)).replace("{s}", EXTERNAL)
    required = _requires(draw, recipe)

    def change(host: Host) -> None:
        program = host.open.enter_context(wrapper(f"#!/bin/sh\n{line}\n"))
        recipe.set(host, sftp=str(program))

    recipe.changes.append(change)
    slow = text.startswith(("sleep {n}", "timeout"))
    return claim(line + required, "sftp-broken", *(["sftp-slow", "sftp-denied"] if slow else []), quiet=slow)


LIES = (
    "silent at the start", "silent", "silent later", "ends", "text", "another version", "refuses: no reason",
    "trickles", "slow", "wrong number", "wrong numbers for ever", "4 GB", "nothing in it", "odd type",
    "shorter than it says", "granted, with nothing in it", "no kind", "two targets",
    "names that lead outside",
    "names without end", "more than was asked for",
)  # fmt: skip


@kind("sftp", weight=4)
def an_sftp_server_that_lies(draw: Random, recipe: Recipe) -> Claim:
    lie = draw.choice(LIES)
    required = _requires(draw, recipe)

    def change(host: Host) -> None:
        name = host.server.folder / "lie"
        name.write_text(lie)
        program = host.open.enter_context(wrapper(f"#!/bin/sh\nexec /usr/bin/python3 {LYING} {name}\n"))
        recipe.set(host, sftp=str(program))

    recipe.changes.append(change)
    subtle = lie in ("two targets", "names that lead outside", "no kind", "more than was asked for")
    ids = {"slow": ("sftp-slow", "sftp-broken"), "refuses: no reason": ("sftp-denied",)}
    return claim(lie + required, *ids.get(lie, ("sftp-broken", "sftp-denied")), quiet=subtle)


@kind("sftp", weight=2)
def an_sftp_server_with_a_rate(draw: Random, recipe: Recipe) -> Claim:
    wait = round(10 ** draw.uniform(-2.2, -0.2), 3)
    text = SLOW.read_text().replace("0.05", str(wait))

    def change(host: Host) -> None:
        recipe.set(host, sftp=str(host.open.enter_context(wrapper(text))))

    recipe.changes.append(change)
    return claim(f"{wait} s a request", "sftp-slow", quiet=wait < 0.03)


@kind("sftp", weight=1)
def no_sftp(draw: Random, recipe: Recipe) -> Claim:
    recipe.sftp = None
    return claim("none" + _requires(draw, recipe), "sftp-missing")


# -- folders ---------------------------------------------------------------------------------------------

FOLDERS = ("", "releases", "cache", "shared", ".switchover", ".switchover/lock", ".switchover/releases",
           ".switchover/jobs", ".switchover/incoming")  # fmt: skip


def _folder(draw: Random, recipe: Recipe, choices: tuple[str, ...] = FOLDERS) -> str:
    """One of the real folders: of a site that stands there, or made for it."""
    recipe.deployed = draw.random() < 0.6
    if draw.random() < 0.6:
        recipe.settings["shared"] = {"dirs": ["storage"]}
    return draw.choice(choices)


def _made(host: Host, name: str) -> Path:
    path = host.site
    for part in name.split("/") if name else ():
        path = path / part
        if not path.exists():
            path.mkdir(mode=0o700 if part == ".switchover" else 0o755)
            host.server.give(path)
    return path


@kind("storage", weight=4)
def rights_of_a_folder(draw: Random, recipe: Recipe) -> Claim:
    name = _folder(draw, recipe)
    mode = draw.choice((0o555, 0o000, 0o333, 0o111, 0o444, 0o500, 0o600))
    owner = draw.choice(("root", "account", "account"))

    def change(host: Host) -> None:
        path = _made(host, name)
        if owner == "root":
            os.chown(path, 0, 0)
            path.chmod(0o755 if mode & 0o5 == 5 else 0o700)
        else:
            path.chmod(mode)
            host.open.callback(path.chmod, 0o755)

    recipe.changes.append(change)
    quiet = name in ("shared", "cache", ".switchover/jobs", ".switchover/incoming") or mode == 0o333
    return claim(f"{name or 'deploy_to'}: {'root' if owner == 'root' else oct(mode)}", "permissions",
                 "sftp-denied", quiet=quiet)  # fmt: skip


@kind("storage", weight=3, programs=("chattr",))
def a_locked_folder(draw: Random, recipe: Recipe) -> Claim:
    name, flag = _folder(draw, recipe), draw.choice("ia")

    def change(host: Host) -> None:
        path = _made(host, name)
        network.run("chattr", f"+{flag}", str(path))
        host.open.callback(subprocess.run, ["chattr", f"-{flag}", str(path)], check=False)

    recipe.changes.append(change)
    return claim(f"{name or 'deploy_to'}: chattr +{flag}", "immutable", quiet=name in ("shared", "cache"))


@kind("storage", weight=4)
def a_mount_in_a_folder(draw: Random, recipe: Recipe) -> Claim:
    name = _folder(draw, recipe, FOLDERS[1:])
    what, options, ids = draw.choice((
        ("full", "size=1m", ("disk-full",)), ("no inodes", "nr_inodes=3,size=40m", ("inodes-full",)),
        ("read-only", "size=4m", ("read-only",)), ("small", f"size={draw.randint(40, 160)}k", ("disk-full",)),
        ("roomy", "size=300m", ("cross-device",)),
    ))  # fmt: skip

    def change(host: Host) -> None:
        path = _made(host, name)
        host.open.enter_context(
            filesystems.mounted(path, "-t", "tmpfs", "-o", f"mode=777,{options}", "tmpfs")
        )
        if what == "full":
            filesystems.fill_up(path)
        if what == "read-only":
            network.run("mount", "-o", "remount,ro", str(path))

    recipe.changes.append(change)
    quiet = name in ("shared", "cache", ".switchover/jobs") or what in ("roomy", "small")
    return claim(f"{name}: {what}", *ids, "cross-device", quiet=quiet)


@kind("storage", weight=3)
def something_in_the_place_of_a_folder(draw: Random, recipe: Recipe) -> Claim:
    name = _folder(draw, recipe)
    what = draw.choice(("a file", "a dangling link", "a pipe", "a link to itself", "a link to root's"))

    def change(host: Host) -> None:
        path = _made(host, name)
        shutil.rmtree(path)
        if what == "a file":
            path.write_text("x")
        elif what == "a pipe":
            os.mkfifo(path)
        else:
            targets = {
                "a dangling link": "/mnt/gone",
                "a link to itself": path.name,
                "a link to root's": "/usr",
            }
            path.symlink_to(targets[what])
        host.server.give(path)

    recipe.changes.append(change)
    also = ("permissions",) if what == "a link to root's" else ()
    ids = ("deploy-to-odd",) if what != "a link to root's" else ("permissions", "deploy-to-odd", "read-only")
    return claim(
        f"{name or 'deploy_to'}: {what}", *ids, *also, quiet=name in ("shared", "cache", ".switchover/jobs")
    )


@kind("storage", weight=3)
def a_file_system_of_its_own(draw: Random, recipe: Recipe) -> Claim:
    what = draw.choice(("full", "no inodes", "read-only", "small"))
    inodes, size = draw.randint(3, 12), draw.randint(60, 190)

    def change(host: Host) -> None:
        options = {"full": "size=1m", "no inodes": f"nr_inodes={inodes}", "read-only": "size=9m",
                   "small": f"size={size}k"}[what]  # fmt: skip
        folder = host.server.root / "disk"
        host.open.enter_context(
            filesystems.mounted(folder, "-t", "tmpfs", "-o", f"mode=777,{options}", "tmpfs")
        )
        site = folder / "site"
        site.mkdir()
        host.server.give(site)
        if what == "full":
            filesystems.fill_up(folder)
        if what == "read-only":
            network.run("mount", "-o", "remount,ro", str(folder))
        host.place.settings["deploy_to"] = str(site)

    recipe.changes.append(change)
    ids = {"full": "disk-full", "no inodes": "inodes-full", "read-only": "read-only", "small": "disk-full"}
    return claim(f"{what}, {inodes} inodes, {size} kB", ids[what], quiet=what == "no inodes" and inodes > 11)


@kind("storage", weight=2, programs=("mount.exfat-fuse", "mkfs.exfat"))
def a_mount_that_hangs(draw: Random, recipe: Recipe) -> Claim:
    name = draw.choice(("", "releases", "shared", "shared/storage", ".switchover", "cache"))
    recipe.settings["shared"] = {"dirs": ["storage"]}

    def change(host: Host) -> None:
        import signal

        path = _made(host, name)
        shutil.rmtree(path, ignore_errors=True)
        host.open.enter_context(filesystems.exfat(path, host.server.user))
        found = subprocess.run(["pgrep", "-f", f"mount.exfat-fuse.*{path}$"], capture_output=True, text=True)
        pids = [int(pid) for pid in found.stdout.split()]
        assert pids, "the file system has no process"
        for pid in pids:
            host.open.callback(os.kill, pid, signal.SIGTERM)
            host.open.callback(os.kill, pid, signal.SIGCONT)
            os.kill(pid, signal.SIGSTOP)

    recipe.changes.append(change)
    return claim(name or "deploy_to", "path-hangs", quiet=name == "cache")


# -- layout ----------------------------------------------------------------------------------------------


@kind("layout", weight=3)
def an_odd_current(draw: Random, recipe: Recipe) -> Claim:
    what, ids = draw.choice((
        ("folder", ("current-not-link",)), ("file", ("current-not-link",)), ("gone", ("release-broken",)),
        ("outside", ("layout-mixed", "release-broken")), ("to itself", ("release-broken",
        "current-not-link")),
        ("absolute", ("layout-mixed",)), ("pipe", ("current-not-link",)),
    ))  # fmt: skip
    recipe.deployed = draw.random() < 0.5

    def change(host: Host) -> None:
        current = host.site / "current"
        current.unlink(missing_ok=True)
        if what == "folder":
            (current / "htdocs").mkdir(parents=True)
            (current / "htdocs/index.php").write_text("x")
        elif what == "file":
            current.write_text("x")
        elif what == "pipe":
            os.mkfifo(current)
        else:
            releases = _made(host, "releases")
            targets = {"gone": "releases/20200101000000", "outside": "/usr/share", "to itself": "current",
                       "absolute": str(next(iter(sorted(releases.iterdir())),
                       releases / "20200101000000"))}  # fmt: skip
            current.symlink_to(targets[what])
        host.server.give(current)

    recipe.changes.append(change)
    return claim(what, *ids, *(["release-broken"] if what == "absolute" else []),
                 quiet=what in ("outside", "absolute"))  # fmt: skip


TRACES = {
    "Capistrano": ("repo/", "revisions.log", "releases/20240101120000/"),
    "Deployer": (".dep/", "releases/41/"), "DeployHQ": ("deploy-cache/",),
    "releases of nobody": ("releases/20230101120000/",), "Mina": ("scm/", "releases/7/"),
}  # fmt: skip


@kind("layout", weight=2)
def another_tools_traces(draw: Random, recipe: Recipe) -> Claim:
    name = draw.choice(list(TRACES))
    recipe.deployed = draw.random() < 0.5

    def change(host: Host) -> None:
        for trace in TRACES[name]:
            if trace.endswith("/"):
                _made(host, trace.rstrip("/"))
            else:
                host.write(host.site / trace, "x\n")

    recipe.changes.append(change)
    return claim(name, "layout-mixed")


@kind("layout", weight=2)
def a_lock_that_stands(draw: Random, recipe: Recipe) -> Claim:
    what = draw.choice(("old", "of somebody now", "unsigned", "a file", "garbage in it", "a huge number"))
    recipe.deployed = draw.random() < 0.5

    def change(host: Host) -> None:
        lock = _made(host, f".switchover/lock/{'9' * 30 if what == 'a huge number' else 7}")
        owner = {"user": "joe", "machine": "laptop", "pid": 1, "time": "2026-01-01T00:00:00+00:00",
                 "command": "fab deploy", "token": "0" * 24, "place": ""}  # fmt: skip
        file = lock / "owner"
        if what == "a file":
            lock.rmdir()
            lock.write_text("")
            return
        if what != "unsigned":
            host.write(file, "\0{]" if what == "garbage in it" else json.dumps(owner), 0o600)
        if what == "old":
            os.utime(file, (time.time() - 90_000, time.time() - 90_000))
        if what in ("old", "unsigned"):
            os.utime(lock, (time.time() - 90_000, time.time() - 90_000))

    recipe.changes.append(change)
    return claim(what, "lock-stale", quiet=what != "old")
