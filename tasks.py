"""Tasks for working on this repository: `inv --list`. The tool itself is `fab --list`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

# What the tests use beside Python: a program of it, and the Debian package that has it.
SYSTEM = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "zstd": "zstd",
    "git": "git",
    "curl": "curl",
    "busybox": "busybox",
    "toybox": "toybox",
    "mkfs.xfs": "xfsprogs",
    "unshare": "util-linux",
    "ip": "iproute2",
    "nft": "nftables",
    "haproxy": "haproxy",
    "dropbear": "dropbear-bin",
    "proftpd": "proftpd-core proftpd-mod-crypto",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.exfat": "exfatprogs",
    "mount.exfat-fuse": "exfat-fuse",
    "ps": "procps",
    "tcsh": "tcsh",
    "bsd-csh": "csh",
    "fish": "fish",
    "zsh": "zsh",
    "mksh": "mksh",
    "ksh93": "ksh93u+m",
    "yash": "yash",
}


@task
def setup(c: Context) -> None:
    """Install the servers and programs that the tests use (root on Debian); else say what is missing."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = {
        program: package for program, package in SYSTEM.items() if not shutil.which(program, path=path)
    }
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"Not installed: {', '.join(missing)}. Tests that need them are skipped.", file=sys.stderr)
        return
    packages = " ".join(sorted(set(missing.values())))
    c.run("apt-get -qq update", hide="stdout")
    c.run(
        f"DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends {packages}",
        hide="stdout",
    )


@task(pre=[setup], help={"k": "Only tests whose name matches, as pytest's -k.", "paths": "Only these files."})
def test(c: Context, k: str = "", paths: str = "tests") -> None:
    """Run the tests, on real servers on loopback."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        str(min(4, os.cpu_count() or 1)),
        "--dist",
        "worksteal",
    ]
    _run(c, *words, *(["-k", k] if k else []), *paths.split())


@task(help={"all": "All of them: about an hour. Writes the table in tests/faults/README.md."})
def faults(c: Context, all: bool = False) -> None:
    """Break deployments on purpose, and count what survives."""
    _run(c, sys.executable, "-m", "tests.faults.run", *(["--all"] if all else []))


@task(
    pre=[setup],
    help={
        "all": "1,000 of each kind: about half an hour. Writes the table in tests/attacks/README.md.",
        "seed": "The first one.",
    },
)
def attacks(c: Context, all: bool = False, seed: int = 0) -> None:
    """Plant links and make hostile repositories at random, and see that nothing outside is touched."""
    _run(c, sys.executable, "-m", "tests.attacks.run", f"--seed={seed}", *(["--all"] if all else []))


@task(
    help={
        "only": "These alone: ids or files, separated by commas.",
        "changed": "Those whose file or tests were changed since this revision.",
        "random": "So many mistakes by chance instead; they are scored apart.",
        "seed": "Which ones these are.",
        "jobs": "How many at a time.",
    }
)
def mutants(
    c: Context, only: str = "", changed: str = "", random: int = 0, seed: int = 1, jobs: int = 2
) -> None:
    """Put mistakes into a copy of the code: do the tests notice? Writes tests/mutants/README.md."""
    words = [f"--only={only}", f"--random={random}", f"--seed={seed}", f"--jobs={jobs}"]
    _run(c, sys.executable, "-m", "tests.mutants.run", *words, *([f"--changed={changed}"] if changed else []))


@task(pre=[setup])
def security(c: Context) -> None:
    """Run the tests of each promise of SECURITY.md. Writes docs/security.md."""
    _run(c, sys.executable, "-m", "tests.security")


@task(
    pre=[setup],
    help={
        "unseen": "Draw faults by this seed instead, that nobody has tuned the diagnosis to.",
        "count": "How many are drawn.",
        "only": "This one of them alone, by its number; nothing is written.",
    },
)
def lab(c: Context, unseen: int = -1, count: int = 100, only: int = -1) -> None:
    """Make every fault that the diagnosis knows, and see whether it names it. Writes tests/lab/README.md."""
    if unseen < 0:
        _run(c, sys.executable, "-m", "tests.lab.run")
        return
    words = [f"--seed={unseen}", f"--count={count}", *([f"--only={only}"] if only >= 0 else [])]
    _run(c, sys.executable, "-m", "tests.lab.unseen.run", *words)


@task(pre=[setup], help={"seed": "Draws the pairs.", "pairs": "How many pairs are drawn."})
def hosts(c: Context, seed: int = 0, pairs: int = 20) -> None:
    """Deploy to hosts as people have them, and write docs/where-it-works.md."""
    _run(c, sys.executable, "-m", "tests.hosts.run", f"--seed={seed}", f"--pairs={pairs}")


@task(
    pre=[setup],
    help={"rounds": "How often each of a pair is measured.", "only": "These parts only, and write nothing."},
)
def bench(c: Context, rounds: int = 5, only: str = "") -> None:
    """Measure against rsync and Capistrano, and write docs/performance.md: about half an hour."""
    parts = [f"--only={part}" for part in only.split(",") if part]
    _run(c, sys.executable, "-m", "tests.benchmarks.run", f"--rounds={rounds}", *parts)


@task
def lint(c: Context) -> None:
    """ruff, mypy (strict on fabfile/), and ShellCheck on the scripts that run on hosts."""
    _run(c, sys.executable, "-m", "ruff", "check", ".")
    _run(c, sys.executable, "-m", "ruff", "format", "--check", ".")
    _run(c, sys.executable, "-m", "mypy")
    # Installed beside our Python: the same version for everybody.
    scripts = sorted(map(str, Path(__file__).parent.glob("fabfile/**/*.sh")))
    _run(c, str(Path(sys.executable).with_name("shellcheck")), *scripts)


def _run(c: Context, *words: str) -> None:
    with c.cd(str(Path(__file__).parent)):
        result = c.run(shlex.join(words), warn=True, pty=sys.stdout.isatty())
    if result is None or not result.ok:
        raise Exit(code=1)
