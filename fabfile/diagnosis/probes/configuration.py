"""What the host's own configuration says, and whether its clock and programs fit."""

from __future__ import annotations

import re

from ...remote.host import NEEDED
from ..examination import Evidence, Examination, lines
from ..finding import Fix

SKEW = 60  # seconds
SHORT = 60.0  # seconds of idleness; limits above it are met by no deployment

# sshd's effective settings as a plain user: the file that the listener was started with (or the usual one),
# with a host key of ours before it, since we may not read the real ones.
SETTINGS = r"""
PATH=$PATH:/usr/sbin:/usr/local/sbin; sshd=$(command -v sshd)
[ -n "$sshd" ] || exit 0
file=/etc/ssh/sshd_config; p=$PPID; n=0
while [ "${p:-0}" -gt 1 ] && [ $n -lt 6 ]; do
  set -- $(tr '\0' ' ' < /proc/$p/cmdline 2>/dev/null)
  while [ $# -gt 1 ]; do [ "$1" = -f ] && [ -r "$2" ] && file=$2; shift; done
  p=$(sed 's/.*) //' /proc/$p/stat 2>/dev/null | cut -d ' ' -f 2); n=$((n + 1))
done
d=$(mktemp -d) || exit 0
trap 'rm -rf "$d"' EXIT
ssh-keygen -q -t ed25519 -N "" -f "$d/k" 2>/dev/null || exit 0
printf 'HostKey %s\nInclude %s\n' "$d/k" "$file" > "$d/c"
printf 'file\t%s\n' "$file"
"$sshd" -T -f "$d/c" -C "user=$(id -un),host=x,addr=${SSH_CONNECTION%% *}" 2>/dev/null | sed 's/ /\t/'
"""


def settings(e: Examination) -> None:
    """Read sshd's effective settings, and warn of limits that a deployment may meet. A far network has no
    time for that.
    """
    if e.bad("slow-link"):
        return
    found = e.script(SETTINGS)
    if "file" not in found or "clientaliveinterval" not in found:
        return
    e.facts["sshd_config"] = lines(found, "file")
    for name in (
        "maxsessions",
        "maxstartups",
        "clientaliveinterval",
        "channeltimeout",
        "unusedconnectiontimeout",
    ):
        if value := lines(found, name):
            e.facts[name] = value
    _channels(e, lines(found, "channeltimeout"))
    _unused(e, lines(found, "unusedconnectiontimeout"))


def _channels(e: Examination, value: str) -> None:
    for pattern, limit in re.findall(r"(\S+)=(\S+)", value):
        seconds = _seconds(limit)
        if seconds and seconds <= SHORT and (pattern.startswith("session:") or pattern == "*"):
            e.warn(
                "idle-channel", f"sshd closes channels that are idle for {seconds:g} s.",
                f"its settings say ChannelTimeout {pattern}={limit}",
                "No keepalive helps against it. Deployments keep their channels busy and reopen SFTP, so "
                "they come through; other tools do not.",
                Fix("sshd_config", "ChannelTimeout none"),
                seconds=seconds, setting=f"ChannelTimeout {pattern}={limit}",
            )  # fmt: skip
            return


def _unused(e: Examination, value: str) -> None:
    seconds = _seconds(value)
    if seconds and seconds <= SHORT:
        e.warn(
            "idle-server", f"sshd drops connections without a session after {seconds:g} s.",
            f"its settings say UnusedConnectionTimeout {value}",
            "Deployments have a channel open nearly always, and reconnect otherwise.",
            Fix("sshd_config", "UnusedConnectionTimeout none"),
            seconds=seconds, setting=f"UnusedConnectionTimeout {value}",
        )  # fmt: skip


def _seconds(value: str) -> float:
    """sshd's time formats: 90, 5m, 1h30m; 0 where there is none."""
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if not re.fullmatch(r"(\d+[smhdw]?)+", value.lower()):
        return 0.0
    return float(sum(int(n) * units[u] for n, u in re.findall(r"(\d+)([smhdw]?)", value.lower())))


def clock(e: Examination) -> str:
    """Compare the host's clock, as the first command told it, with this machine's."""
    said, here = e.said.get("clock", ""), e.asked_at
    if not said.isdigit():
        return "the host's `date` does not tell the time in seconds"
    skew = round(int(said) - here)
    if abs(skew) <= SKEW:
        e.ok("clock-skew", seconds=skew)
        return ""
    e.warn(
        "clock-skew",
        f"The clocks of host and this machine are {abs(skew)} s apart.",
        f"the host's is {'ahead' if skew > 0 else 'behind'}",
        "Release names tell the time of whoever deployed; where several do, they get out of order. Set "
        "both by NTP.",
        Fix("host", "timedatectl set-ntp true"), seconds=skew,
    )  # fmt: skip
    return ""


# What a deployment does without, and how.
USEFUL = {
    "awk": "new files are put in place one by one",
    "xargs": "new files are put in place one by one",
    "sha256sum": "content is verified by size only",
    "gzip": "manifests travel uncompressed",
    "ps": "the account's processes are not counted",
    "setsid": "detached jobs depend on the shell ignoring a hangup",
}
PROGRAMS = (*NEEDED, *USEFUL, "tar", "rsync", "curl", "wget", "zstd")


def tools(e: Examination) -> None:
    """Which programs are missing, as the settings need them."""
    settings, have = e.settings, e.programs
    missing = [name for name in NEEDED if name not in have]
    if settings.transfer == "stream" and "tar" not in have:
        missing.append("tar")
    if settings.transfer == "rsync" and "rsync" not in have:
        missing.append("rsync")
    if settings.health and not have & {"curl", "wget"}:
        missing.append("curl")
    poor = {name: effect for name, effect in USEFUL.items() if name not in have}
    if "tar" not in have and "tar" not in missing:
        poor["tar"] = "uploads go by rsync or SFTP, file by file"
    e.facts["programs"] = ", ".join(sorted(have & {"tar", "rsync", "zstd", "curl", "wget", "sha256sum"}))
    evidence: Evidence = {"missing": [*missing, *poor], "path": e.said.get("path")}
    if missing:
        e.missed("programs", f"not there: {', '.join(missing)}")
    else:
        e.saw("programs")
    if missing or poor:
        names = [*missing, *poor]
        e.judge(
            "fail" if missing else "warn",
            "tool-missing",
            f"{'Deployments fail for want of' if missing else 'Deployments do without'} programs: "
            f"{', '.join(names)}.",
            "; ".join([f"the PATH is {e.said.get('path')}", *(f"without {n}: {w}" for n, w in poor.items())]),
            "Have it installed, or its folder put on the PATH that sshd gives to commands.",
            Fix("host", f"apt-get install -y {' '.join(_packages(names))}"), **evidence,
        )  # fmt: skip
    else:
        e.ok("tool-missing", **evidence)


def _packages(names: list[str]) -> list[str]:
    packages = {
        "tar": "tar", "rsync": "rsync", "curl": "curl", "gzip": "gzip", "setsid": "util-linux",
        "ps": "procps", "awk": "gawk", "find": "findutils", "xargs": "findutils", "grep": "grep",
        "sed": "sed",
    }  # fmt: skip
    return sorted({packages.get(name, "coreutils") for name in names})
