"""The dead man's switch: a timer on the host that puts the old link back if we vanish after the switch.

It needs nothing of ours: neither the connection, nor sshd, nor the network. Then it runs the after_switch
hooks in the release that is live again. Whoever makes the directory `decision` first decides: the timer, or
the deployment that has seen the new release prove itself.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ..errors import HostNotReady
from ..on_host import went_back
from ..on_host.layout import Layout
from ..on_host.went_back import WentBack
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.script_files import Scripts, quote

_scripts = Scripts(__package__)


def _decision(jobs: Jobs) -> str:
    return f"{jobs.folder}.decision"


def refuse(host: Host) -> NoReturn:
    """Raise HostNotReady: the host has no way to replace a link in one step."""
    raise HostNotReady(
        f"{host.name} can't put a link back by itself.",
        "its mv knows no -T",
        "Leave `confirm` out of the settings.",
    )


class Timer(NamedTuple):
    """What a timer on the host is to do.

    release:    the one that goes live; old: what the link said before, None: it was not there.
    owner_file: what the living client touches; `within` seconds without that, and the timer acts.
    record:     commands that write down that the release is bad.
    hooks:      scripts that have the services take up the old release; limit: seconds for each.
    """

    release: str
    old: str | None
    owner_file: str
    within: int
    record: str
    hooks: Sequence[str] = ()
    limit: int = 1800


def arm(host: Host, jobs: Jobs, layout: Layout, timer: Timer) -> None:
    """Start the timer, before the switch.

    Raises HostNotReady where the host has no way to replace a link in one step.
    """
    if not host.facts.mv_no_target:
        refuse(host)
    end = f"end-{secrets.token_hex(8)}"  # what no hook can hold, since nobody knew it
    hooks = "".join(f"{n}) cat <<'{end}'\n{hook}\n{end}\n;;\n" for n, hook in enumerate(timer.hooks, 1))
    acting = _scripts(
        "deadman", decision=_decision(jobs), owner=timer.owner_file, within=timer.within,
        current=layout.current, fresh=f"{layout.own}/current.back",
        new=f"releases/{timer.release}", old=timer.old or "",
        report=went_back.file(layout), hooks=len(timer.hooks), limit=timer.limit,
    )  # fmt: skip
    script = f"record() {{\n{timer.record}\n}}\nhook() {{\ncase $1 in\n{hooks}esac\n}}\n{acting}\n"
    jobs.start("deadman", script, "Arming the timer", for_hooks=bool(timer.hooks))


def disarm(host: Host, jobs: Jobs) -> bool:
    """The deployment decides; False where the timer has decided before. Safe to run twice."""
    decision = quote(_decision(jobs))
    script = f"""
mkdir {decision} 2>/dev/null && : > {decision}/confirmed
[ -e {decision}/confirmed ]
"""
    return host.shell.run(script, what="Confirming", check=False).status == 0


def outcome(host: Host, jobs: Jobs, layout: Layout) -> WentBack | None:
    """What the timer has done, once it has ended; None where nobody knows. Raises CommandFailed where it does
    not end.
    """
    jobs.settle()
    said = host.shell.run(
        f"cat {quote(went_back.file(layout))}", what="Reading what the host did", check=False
    )
    with contextlib.suppress(ValueError):
        return WentBack.loads(said.text.removesuffix("\n"))
    return None
