"""The probes: first what no deployment can do without, so that it is known whatever else takes its time."""

from __future__ import annotations

from ..examination import Probe
from ..finding import CATALOGUE
from . import configuration, connect, idle, layout, network, paths, serving, sftp, shell, storage, view


def _of(stage: str) -> tuple[str, ...]:
    return tuple(id for id, entry in CATALOGUE.items() if entry.stage == stage)


PROBES = (
    Probe("connect", _of("connect"), connect.login, needs=(), grants=("connection",)),
    Probe("shell", _of("shell"), shell.speaks, grants=("shell",)),
    Probe("storage", ("path-hangs",), paths.answer, needs=("shell", "deploy_to")),
    Probe("shell", (), shell.make_place, needs=("shell",), grants=("place",)),
    Probe("limits", ("mtu", "link-cut", "slow-link"), network.bulk, needs=("shell",)),
    Probe("shell", (), shell.long_command, needs=("shell",)),
    Probe("limits", ("max-sessions",), shell.sessions),
    Probe("tools", ("tool-missing",), configuration.tools, needs=("shell",)),
    Probe("sftp", ("sftp-missing", "sftp-broken"), sftp.opens, grants=("sftp",)),
    Probe("sftp", ("sftp-denied", "sftp-readonly"), sftp.requests, needs=("connection", "sftp")),
    Probe("layout", (), layout.read, needs=("shell", "deploy_to")),
    Probe(
        "storage",
        tuple(id for id in _of("storage") if id != "path-hangs"),
        storage.try_it,
        needs=("shell", "deploy_to"),
    ),
    Probe(
        "layout",
        tuple(id for id in _of("layout") if id != "serves-old"),
        layout.look,
        needs=("shell", "deploy_to"),
    ),
    Probe("view", ("view-split", "view-chroot"), view.same_tree, needs=("shell", "sftp", "place")),
    Probe("view", ("server-varies",), view.same_server, needs=("shell", "place")),
    Probe("sftp", (), sftp.transfer, needs=("connection", "sftp", "place")),
    Probe("limits", ("sftp-slow",), sftp.speed, needs=("connection", "sftp")),
    Probe("limits", ("peer-lossy",), network.loss, needs=("shell",)),
    Probe("layout", ("serves-old",), serving.look, needs=("shell", "deploy_to")),
    Probe("configuration", (), configuration.settings, needs=("shell",)),
    Probe("configuration", ("clock-skew",), configuration.clock, needs=("shell",)),
    Probe("configuration", ("strategy-advice",), lambda e: "", needs=("shell", "deploy_to")),
    Probe("configuration", ("jobs-killed-at-logout",), view.outlives, needs=("shell", "place")),
    Probe("idle", _of("idle"), idle.endurance, needs=("connection",), deep=True),
)
