"""Copy a tree on the host: reflink, hardlink or full."""

from __future__ import annotations

from ..errors import CommandFailed, HostNotReady
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import ENGLISH, quote

COMMANDS = {"reflink": "cp -a --reflink=always", "hardlink": "cp -al", "full": "cp -a"}


def copy_tree(host: Host, jobs: Jobs, source: str, target: str, mode: str) -> str:
    """Make `target` (replaced if it is there) a copy of the directory `source`; the mode that was used.

    mode: auto tries reflink and falls back to full; it never hardlinks, since then a file changed in
    place in one release would change in all. Raises HostNotReady where the asked-for mode can't be had.
    """
    if mode != "auto":
        try:
            _copy(jobs, source, target, (mode,))
        except CommandFailed as error:
            if mode == "full":
                raise
            raise HostNotReady(
                f"copy: {mode} does not work on {host.name}.",
                error.why,
                "Set copy: auto, which falls back to a full copy.",
            ) from error
        return mode
    tried = ("reflink", "full") if host.facts.cp_reflink else ("full",)
    return _copy(jobs, source, target, tried)


def knows_reflink(host: Host, directory: str) -> bool:
    """Whether files in `directory` can be copied without taking room; tried with a small one."""
    probe = quote(f"{directory}/reflink.probe")
    script = f"echo > {probe} && cp --reflink=always {probe} {probe}.copy; s=$?; rm -f {probe} {probe}.copy; "
    script += "exit $s"
    return host.facts.cp_reflink and host.shell.run(script, check=False, what="Trying a reflink").status == 0


def _copy(jobs: Jobs, source: str, target: str, modes: tuple[str, ...]) -> str:
    attempts = []
    for i, mode in enumerate(modes):
        quiet = "2>/dev/null" if i + 1 < len(modes) else ""
        copy = f"{COMMANDS[mode]} {quote(source)} {quote(target)} {quiet}"
        attempts.append(f"{{ rm -rf {quote(target)} && {copy} && echo {mode}; }}")
    said = jobs.run(f"copy-{modes[0]}", ENGLISH + " || ".join(attempts), f"Copying {source} to {target}").text
    return said.split()[-1]
