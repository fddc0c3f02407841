"""What ssh_config says about a host, read by OpenSSH itself where it is installed.

paramiko's parser ignores Include, takes unknown Match keywords for "every host" and dials
`ProxyJump a,b` in the wrong order. `ssh -G HOST` (ssh(1)) prints the answer that ssh would act on.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fabric import Config
from paramiko import SSHConfig

ASK_TIMEOUT = 10.0  # seconds; a `Match exec` may run a command

# The keys that Fabric honours, apart from those that Answer takes for itself.
PASSED_ON = frozenset({"hostname", "user", "port", "proxycommand", "forwardagent", "connecttimeout"})


@dataclass(frozen=True)
class Answer:
    """The effective configuration for one host."""

    config: SSHConfig
    jumps: tuple[str, ...] = ()  # in the order they are dialled
    identities_only: bool = False


def resolve(host: str, config: Config) -> Answer:
    """What applies to `host` (a name without user and port): OpenSSH's answer, else Fabric's own reading."""
    return _answer(_ask_openssh(host, config) or _read_by_fabric(host, config))


def _ask_openssh(host: str, config: Config) -> dict[str, list[str]] | None:
    ssh = shutil.which("ssh")
    if ssh is None or host.startswith("-"):
        return None
    chosen = ["-F", str(config._runtime_ssh_path)] if config._runtime_ssh_path else []
    try:
        done = subprocess.run(
            [ssh, "-G", *chosen, host],
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key.lower(), []).append(value)
    return found if done.returncode == 0 else None


def _read_by_fabric(host: str, config: Config) -> dict[str, list[str]]:
    found = config.base_ssh_config.lookup(host)
    return {key: value if isinstance(value, list) else [str(value)] for key, value in found.items()}


def _answer(found: dict[str, list[str]]) -> Answer:
    defaults = {f"user {getpass.getuser()}", "port 22"}  # not to win over Fabric's own configuration
    lines = [f"{key} {value}" for key in PASSED_ON for value in found.get(key, []) if value != "none"]
    lines = [line for line in lines if line not in defaults]
    for name in found.get("identityfile", []):
        path = Path(name).expanduser()
        if path.is_file():  # ssh -G also names the default keys, whether they exist or not
            lines.append(f'identityfile "{path}"')
    jumps = [hop.strip() for hop in found.get("proxyjump", ["none"])[0].split(",")]
    return Answer(
        SSHConfig.from_text("\n".join(["Host *", *lines])),
        tuple(hop for hop in jumps if hop != "none"),
        found.get("identitiesonly") == ["yes"],
    )
