"""What ssh_config says about a host, read by OpenSSH itself where it is installed.

paramiko's parser ignores Include, takes unknown Match keywords for "every host" and dials
`ProxyJump a,b` in the wrong order. `ssh -G HOST` (ssh(1)) prints the answer that ssh would act on, with
some of its tokens still in it (ssh_config(5), TOKENS).
"""

from __future__ import annotations

import getpass
import hashlib
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabric import Config
from paramiko import SSHConfig

from ..address import Address, parse
from ..errors import ConfigError
from . import host_keys

ASK_TIMEOUT = 10.0  # seconds; a `Match exec` may run a command

# The keys that Fabric honours, apart from those that Answer takes for itself.
PASSED_ON = ("hostname", "user", "port", "proxycommand", "forwardagent", "connecttimeout")

_DEFAULT_KEYS = ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")

Found = Mapping[str, list[str]]


@dataclass(frozen=True)
class Answer:
    """The effective configuration for one host.

    jumps: in the order they are dialled. identities: key files that the configuration names.
    agent: IdentityAgent; None: not said. tokens: what %h and its like stand for.
    """

    config: SSHConfig
    tokens: Mapping[str, str]
    jumps: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str | None = None
    host_keys: host_keys.Said = field(default_factory=host_keys.Said)


def resolve(address: Address, config: Config) -> Answer:
    """What applies to a host: OpenSSH's answer, else, where there is no ssh, Fabric's own reading.

    Raises ConfigError where ssh can't make sense of its configuration.
    """
    found = _ask_openssh(address, config) or _read_by_fabric(address, config)
    try:
        return _answer(found, address)
    except ValueError as error:
        raise _unusable(address, str(error)) from None


def _ask_openssh(address: Address, config: Config) -> Found | None:
    ssh = shutil.which("ssh")
    if ssh is None:
        return None
    chosen = ["-F", str(config._runtime_ssh_path)] if config._runtime_ssh_path else []
    chosen += ["-l", address.user] if address.user else []  # a Match may ask for either
    chosen += ["-p", str(address.port)] if address.port else []
    try:
        done = subprocess.run(
            [ssh, "-G", *chosen, "--", address.host],
            capture_output=True,
            timeout=ASK_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        why = f"no answer within {ASK_TIMEOUT:g} s; a `Match exec` may hang"
        raise _unusable(address, why) from None
    if done.returncode != 0:
        raise _unusable(address, done.stderr.decode("utf-8", "replace").strip()[-1000:])
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key.lower(), []).append(value)
    return found


def _unusable(address: Address, why: str) -> ConfigError:
    return ConfigError(
        f"ssh can't say what its configuration means for {address.host}.",
        why,
        f"Mend ssh_config until this works:\nssh -G {shlex.quote(address.host)}",
    )


def _read_by_fabric(address: Address, config: Config) -> Found:
    found = config.base_ssh_config.lookup(address.host)
    return {key: value if isinstance(value, list) else [str(value)] for key, value in found.items()}


def _answer(found: Found, address: Address) -> Answer:
    defaults = {f"user {getpass.getuser()}", "port 22"}  # not to win over Fabric's own configuration
    lines = [f"{key} {value}" for key in PASSED_ON if (value := _passed_on(key, _one(found, key)))]
    lines = [line for line in lines if line not in defaults]
    tokens = _tokens(found, address)
    jumps = [hop.strip() for hop in _one(found, "proxyjump").split(",")]
    for hop in jumps:
        if hop not in ("", "none"):
            parse(hop)
    if (port := _one(found, "port")) and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"Port {port!r} is no port")
    if any("\0" in value for values in found.values() for value in values):
        raise ValueError("there is a NUL in it")
    named = found.get("identityfile", [])
    if named == [f"~/.ssh/id_{kind}" for kind in _DEFAULT_KEYS][: len(named)]:
        named = []  # ssh -G also names the default keys
    return Answer(
        SSHConfig.from_text("\n".join(["Host *", *lines])),
        tokens,
        tuple(hop for hop in jumps if hop not in ("", "none")),
        _paths(named, tokens),
        _paths(found.get("certificatefile", []), tokens),
        _one(found, "identitiesonly") == "yes",
        _agent(_one(found, "identityagent"), tokens),
        _host_keys(found, tokens),
    )


def _passed_on(key: str, value: str) -> str:
    """What Fabric is to be told; "" for nothing. It knows fewer values than ssh, and ends at others."""
    if key == "forwardagent":  # or the socket of an agent
        return "yes" if value not in ("", "no") else value
    if key == "connecttimeout" and not value.isdecimal():
        return ""
    return "" if value == "none" else value.strip()


def _one(found: Found, key: str) -> str:
    return found.get(key, [""])[0]


def _host_keys(found: Found, tokens: Mapping[str, str]) -> host_keys.Said:
    checking = _one(found, "stricthostkeychecking") or "ask"
    alias = _one(found, "hostkeyalias")
    revoked = _one(found, "revokedhostkeys")
    own, shared = _one(found, "userknownhostsfile"), _one(found, "globalknownhostsfile")
    return host_keys.Said(
        checking={"true": "yes", "false": "no", "off": "no"}.get(checking, checking),
        files=_files(own, tokens) if own and own != _default_known_hosts() else host_keys.own_files(),
        global_files=_files(shared, tokens) if shared else host_keys.GLOBAL_FILES,
        alias=alias if alias not in ("", "none") else None,
        revoked=Path(expand(revoked, tokens)) if revoked not in ("", "none") else None,
        hashed=_one(found, "hashknownhosts") in ("yes", "true"),
        algorithms=tuple(filter(None, _one(found, "hostkeyalgorithms").split(","))),
        ca_algorithms=tuple(filter(None, _one(found, "casignaturealgorithms").split(","))),
    )


def _default_known_hosts() -> str:
    """ssh takes the home folder from the account's entry, we from $HOME, as everything else here does."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    return f"{home}/.ssh/known_hosts {home}/.ssh/known_hosts2"


def _files(value: str, tokens: Mapping[str, str]) -> tuple[Path, ...]:
    """Several paths on one line; ssh -G leaves the quotes out, so a space counts where a path begins."""
    return tuple(Path(path) for path in _paths(re.split(r" +(?=[/~$%])", value), tokens))


def _paths(values: Iterable[str], tokens: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(expand(value, tokens) for value in values if value not in ("", "none"))


def _agent(value: str, tokens: Mapping[str, str]) -> str | None:
    """The agent's socket; "none" for no agent; None: SSH_AUTH_SOCK says."""
    if value in ("", "SSH_AUTH_SOCK"):
        return None
    if value.startswith("$") and not value.startswith("${"):  # $VAR, which only IdentityAgent knows
        return os.environ.get(value[1:]) or "none"
    return value if value == "none" else expand(value, tokens)


# -- tokens --------------------------------------------------------------------------------------------


def _tokens(found: Found, address: Address) -> dict[str, str]:
    me = pwd.getpwuid(os.getuid()).pw_name
    here = socket.gethostname()
    host = _one(found, "hostname") or address.host
    user = _one(found, "user") or address.user or me
    port = _one(found, "port") or str(address.port or 22)
    jump = "" if _one(found, "proxyjump") == "none" else _one(found, "proxyjump")
    return {
        "%": "%",
        "C": hashlib.sha1(f"{here}{host}{port}{user}{jump}".encode(), usedforsecurity=False).hexdigest(),
        "d": str(Path.home()),
        "h": host,
        "i": str(os.getuid()),
        "j": jump,
        "k": _one(found, "hostkeyalias") or address.host,
        "L": here.partition(".")[0],
        "l": here,
        "n": address.host,
        "p": port,
        "r": user,
        "u": me,
    }


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """A path with its `~`, %tokens and ${VARIABLES} replaced. Raises ConfigError where one has no value."""
    home = os.path.expanduser(text) if text.startswith("~") else text  # noqa: PTH111

    def value(match: re.Match[str]) -> str:
        token, variable = match.groups()
        found = tokens.get(token) if token else os.environ.get(variable)
        if found is None:
            raise ConfigError(
                "ssh_config has something in it that stands for nothing.",
                f"{match[0]!r} in {text!r}",
                "Correct the token (ssh_config(5), TOKENS), or set the variable.",
            )
        return found

    return re.sub(r"%(.)|\$\{([^}]*)\}", value, home)


def expand_command(command: str, tokens: Mapping[str, str]) -> str:
    """A ProxyCommand with its %tokens replaced; variables are left to the shell."""
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), command)
