"""The dead man's switch: a timer on the host that puts the old link back if we vanish after the switch.

It needs nothing of ours: neither the connection, nor sshd, nor the network. Whoever makes the directory
`decision` first decides: the timer, or the deployment that has seen the new release prove itself.
"""

from __future__ import annotations

from typing import NoReturn

from ..errors import HostNotReady
from ..remote.host import Host
from ..remote.jobs import Jobs
from ..remote.shell import quote
from ..site.layout import Layout


def _decision(jobs: Jobs) -> str:
    return quote(f"{jobs.folder}.decision")


def refuse(host: Host) -> NoReturn:
    """Raise HostNotReady: the host has no way to replace a link in one step."""
    raise HostNotReady(
        f"{host.name} can't put a link back by itself.",
        "its mv knows no -T",
        "Leave `confirm` out of the settings.",
    )


def arm(
    host: Host,
    jobs: Jobs,
    layout: Layout,
    release: str,
    old: str | None,
    owner_file: str,
    within: int,
    then: str,
) -> None:
    """Start the timer, before the switch to `release`.

    old:        what the link said before; None: it was not there.
    owner_file: what the living client touches; `within` seconds without that, and the timer acts.
    then:       commands that write down what happened.
    Raises HostNotReady where the host has no way to replace a link in one step.
    """
    if not host.facts.mv_no_target:
        refuse(host)
    back = f"{layout.own}/current.back"
    current = quote(layout.current)
    restore = (
        f"rm -f {quote(back)}; ln -s {quote(old)} {quote(back)} && mv -fT {quote(back)} {current}"
        if old
        else f"rm -f {current}"
    )
    script = f"""
while :; do
  sleep 1
  [ ! -d {_decision(jobs)} ] || exit 0
  last=$(stat -c %Y {quote(owner_file)} 2>/dev/null) || exit 0
  [ $(($(date +%s) - last)) -ge {within} ] && break
done
mkdir {_decision(jobs)} 2>/dev/null || exit 0
[ "$(readlink {current})" = {quote(f"releases/{release}")} ] || exit 0
{restore} && {then}
"""
    jobs.start("deadman", script, "Arming the timer")


def disarm(host: Host, jobs: Jobs) -> bool:
    """The deployment decides; False where the timer has decided before. Safe to run twice."""
    script = f"""
mkdir {_decision(jobs)} 2>/dev/null && : > {_decision(jobs)}/confirmed
[ -e {_decision(jobs)}/confirmed ]
"""
    return host.shell.run(script, what="Confirming", check=False).status == 0
