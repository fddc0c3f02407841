"""What ssh_config says about a host, read by OpenSSH itself where it is installed.

paramiko's parser ignores Include, takes unknown Match keywords for "every host" and dials
`ProxyJump a,b` in the wrong order. `ssh -G HOST` (ssh(1)) prints the answer that ssh would act on.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from dataclasses import dataclass, field
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
    raw: dict[str, list[str]] = field(default_factory=dict)


def resolve(host: str, config: Config) -> Answer:
    """Ask OpenSSH about `host` ([user@]host[:port] already taken apart); else what Fabric has read."""
    ssh = shutil.which("ssh")
    if ssh is None or host.startswith("-"):
        return Answer(config.base_ssh_config)
    command = [ssh, "-G"]
    if config._runtime_ssh_path:
        command += ["-F", str(config._runtime_ssh_path)]
    try:
        done = subprocess.run(
            [*command, host], capture_output=True, text=True, timeout=ASK_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return Answer(config.base_ssh_config)
    if done.returncode != 0:
        return Answer(config.base_ssh_config)
    return _from_lines(done.stdout)


def _from_lines(text: str) -> Answer:
    raw: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        raw.setdefault(key.lower(), []).append(value)
    defaults = {f"user {getpass.getuser()}", "port 22"}  # not to win over Fabric's own configuration
    lines = [f"{key} {value}" for key in PASSED_ON for value in raw.get(key, []) if value != "none"]
    lines = [line for line in lines if line not in defaults]
    for name in raw.get("identityfile", []):
        path = Path(name).expanduser()
        if path.is_file():  # ssh -G also names the default keys, whether they exist or not
            lines.append(f'identityfile "{path}"')
    jumps = [hop for hop in raw.get("proxyjump", ["none"])[0].split(",") if hop != "none"]
    return Answer(
        SSHConfig.from_text("\n".join(["Host *", *lines])),
        tuple(jumps),
        raw.get("identitiesonly") == ["yes"],
        raw,
    )
