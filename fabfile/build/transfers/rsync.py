"""rsync: patchwork's, behind an adapter that quotes and adds what it lacks.

patchwork.transfers.rsync has -pthrvz built in and neither -l nor quoting, and hands ssh only port, user
and keys. So it is called with a file list, quoted paths, and an ssh configuration of our own making
that knows the jump hosts, the known hosts and the keepalive.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ... import interruption
from ...errors import CommandFailed, CommandTimedOut, ConfigError, LinkLost, classify
from ...local.processes import GRACE, running
from ...local.scratch import scratch
from ...on_host.manifest import Entry
from ...remote.connection import Connection
from ...remote.host import Host
from ...remote.shell import quote
from ...settings.values import CONTROL
from ..source.source import Source
from .installed import not_installed
from .transfer import Tally

# rsync(1): socket I/O, protocol stream, two timeouts; 255 is ssh's own. These words mean that trying
# again won't help.
LINK_STATUS = (10, 12, 30, 35, 255)
REFUSED = ("Permission denied", "Host key verification failed", "No space left on device")
SAID = 1000  # bytes of what rsync has said that an error tells
BLOCK = 1 << 16  # bytes read at a time


class RsyncTransfer:
    """Uploads by the rsync programs of both sides over OpenSSH's ssh."""

    name = "rsync"

    def __init__(self, host: Host) -> None:
        self.host = host

    def unfit(self) -> str:
        """Why rsync can't be used here, or ""."""
        if missing := not_installed():
            return f"{' and '.join(missing)} can't be imported here"
        for program in ("rsync", "ssh"):
            if shutil.which(program) is None:
                return f"this machine has no `{program}`"
        connection = self.host.connection
        if connection.connect_kwargs.get("password") or connection.connect_kwargs.get("passphrase"):
            return "ssh can't be handed the password that Fabric was given"
        if not _patchwork("environment").have_program(_OverOurShell(self.host), "rsync"):
            return "the host has no `rsync`"
        return ""

    def send(self, source: Source, entries: Sequence[Entry], staging: str, tally: Tally) -> None:
        """See Transfer.send."""
        with scratch() as folder:
            names = folder / "files"
            # ./ because rsync takes a name that starts with # or ; for a comment.
            names.write_bytes(b"".join(b"./" + os.fsencode(e.path) + b"\0" for e in entries))
            config = folder / "ssh_config"
            config.write_text(_ssh_config(self.host.connection))
            # rsync follows whatever stands in a folder's place by now: it reads what we have read.
            (folder / "tree").mkdir()
            source.copy(entries, folder / "tree")
            self._rsync(folder / "tree", names, config, staging)
        tally(len(entries), sum(e.size for e in entries))

    def _rsync(self, root: Path, names: Path, config: Path, staging: str) -> None:
        # What is being received lies beside the staging directory; what was cut goes to its place in it. Not
        # with an absolute --partial-dir: Debian's 3.2.7-1+deb12u6 then fails its own verification, each time.
        aside = quote(f"{staging}.rsync")
        self.host.shell.run(f"mkdir -p {quote(staging)} {aside}", what="Preparing the upload")
        # -s: the remote path is not given to the remote shell. No -r: the list names every entry.
        # -I: never skip by size and time. --no-implied-dirs would need every folder in the list.
        # Du+rwx: the files are moved out of these folders again.
        keepalive = self.host.connection.rules.keepalive
        silence = max(1, round(keepalive.interval * keepalive.count))
        options = (
            f"-l -s -I --no-r --chmod=Du+rwx --from0 --files-from={shlex.quote(str(names))} "
            f"--timeout={silence} --temp-dir={aside} --partial"
        )
        _patchwork("transfers").rsync(
            _LocalRunner(self.host),
            shlex.quote(f"{root}/"),
            shlex.quote(f"{staging}/"),
            rsync_opts=options,
            ssh_opts=f"-F {config}",
        )


def _patchwork(module: str) -> Any:
    """A module of patchwork 1.0.1, which wants the `six` that Invoke used to carry."""
    import invoke.vendor
    import six

    invoke.vendor.six = six
    sys.modules.setdefault("invoke.vendor.six", six)
    return importlib.import_module(f"patchwork.{module}")


class _OverOurShell:
    """What patchwork takes for a connection when it asks whether a program is there."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def run(self, command: str, **_: object) -> bool:
        return self.host.shell.run(command, check=False).status == 0


class _LocalRunner:
    """What patchwork takes for a connection when it calls rsync: an address, and a way to run."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.timeout = host.shell.timeout
        self.connection = host.connection
        self.user = quote(host.connection.user)
        # The address stands in the configuration file, so no odd host name meets the local shell.
        self.host = "switchover-host"
        self.port = host.connection.port
        self.connect_kwargs: dict[str, object] = {}

    def local(self, command: str) -> None:
        """Run rsync. Raises LinkLost, CommandFailed, CommandTimedOut, and Stopped after an interruption."""
        words = ["/bin/sh", "-c", command]
        with running(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            said = _Said(process)
            status = self._wait(process)
            if status == 0:
                return
            told = said.text()
        why = f"exit status {status}: {told}"
        if status in LINK_STATUS and not any(words in told for words in REFUSED):
            raise LinkLost(f"rsync's own connection to {self.name} died.", why)
        raise CommandFailed(
            f"rsync to {self.name} failed.",
            why,
            "Set transfer: stream, which needs neither rsync nor ssh on this machine.",
            reason=classify(told),
            status=status,
            output=told,
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(interruption.POLL)
            self.connection.stop_if_interrupted()
        raise CommandTimedOut(
            f"rsync to {self.name} did not end.",
            f"no end after {self.timeout:g} s",
            "Raise ssh.command_timeout.",
        )


class _Said:
    """The last of what a program writes to stderr; the host may have it write without end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self._pipe = process.stderr
        self._last = b""
        self._reader = threading.Thread(target=self._read, name="rsync", daemon=True)
        self._reader.start()

    def text(self) -> str:
        """What it has said, once it has ended; what it has left behind may keep stderr open."""
        self._reader.join(GRACE)
        return self._last.decode("utf-8", "replace").strip()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while block := os.read(self._pipe.fileno(), BLOCK):
                self._last = (self._last + block)[-SAID:]


def _ssh_config(connection: Connection) -> str:
    """An ssh_config with our rules first and the user's own behind them (the first value found wins)."""
    rules = connection.rules
    hops = list(_hops(connection))
    # Named as hosts of their own, since each may have another key than the host behind it.
    jumps = [f"switchover-jump-{number}" for number in range(len(hops))]
    own = connection.config._runtime_ssh_path or "~/.ssh/config"
    lines = [
        "Host *",
        "  BatchMode yes",
        "  ControlPath none",  # a connection of somebody else's would have another verdict about its key
        f"  ConnectTimeout {max(1, round(rules.connect_timeout))}",
        f"  ServerAliveInterval {max(1, round(rules.keepalive.interval))}",
        f"  ServerAliveCountMax {rules.keepalive.count}",
        *(line for name, hop in zip(jumps, hops, strict=True) for line in _host_lines(name, hop)),
        *_host_lines("switchover-host", connection),
        *([f"  ProxyJump {','.join(jumps)}"] if jumps else []),
        "Host *",
        f"  Include {_quoted(own)}",
    ]
    if any(CONTROL.search(line) for line in lines):
        raise ConfigError(
            "rsync can't be given the way to the host.",
            "a path, a name or a command in it holds a control character",
            "Set transfer: stream.",
        )
    return "\n".join([*lines, ""])


def _host_lines(name: str, connection: Connection) -> list[str]:
    """One host: the same verdict about its key, and the same keys of ours, as over our own connection."""
    keys, said, ways = connection.keys, connection.keys.said, connection.ways
    checking = {"strict": "yes", "accept-new": "accept-new", "off": "no"}[keys.mode]
    proxy = connection.proxy_command.replace("%", "%%")
    files = [Path(os.devnull)] if keys.mode == "off" else keys.files
    return [
        f"Host {name}",
        f"  HostName {connection.host}",
        f"  Port {connection.port}",
        f"  User {_quoted(connection.user)}",
        f"  StrictHostKeyChecking {checking}",
        f"  UserKnownHostsFile {' '.join(_token_free(path) for path in files) or 'none'}",
        f"  GlobalKnownHostsFile {' '.join(_quoted(path) for path in said.global_files) or 'none'}",
        *([f"  HostKeyAlias {said.alias}"] if said.alias else []),
        *([f"  RevokedHostKeys {_quoted(said.revoked)}"] if said.revoked else []),
        *([f"  HostKeyAlgorithms {','.join(said.algorithms)}"] if said.algorithms else []),
        *([f"  CASignatureAlgorithms {','.join(said.ca_algorithms)}"] if said.ca_algorithms else []),
        *(f"  IdentityFile {_token_free(path)}" for path in ways.files),
        *(f"  CertificateFile {_token_free(path)}" for path in ways.certificates),
        *([f"  IdentityAgent {_token_free(ways.agent)}"] if ways.agent is not None else []),
        *(["  IdentitiesOnly yes"] if ways.only else []),
        *([f"  ProxyCommand {proxy}"] if proxy else []),
    ]


def _quoted(value: object) -> str:
    """A value of ssh_config that may hold spaces, quotes and backslashes (ssh_config(5))."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _token_free(path: object) -> str:
    """The same where % would begin a token."""
    return _quoted(str(path).replace("%", "%%"))


def _hops(connection: Connection) -> Iterator[Connection]:
    gateway = connection.gateway
    if isinstance(gateway, Connection):
        yield from _hops(gateway)
        yield gateway
