"""The real thing on a small scale: a deployment beside the site, with a link of its own; nothing stays."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabric

from ..background import background
from ..errors import SwitchoverError
from ..events import silent
from ..hosts import Target, opened
from ..local import last_failure
from ..remote.connection import LINK_ERRORS
from ..remote.shell import quote
from ..results import HostResult, Outcome
from ..settings import Settings
from ..settings.model import Hooks, Reconnect, Shared, Source
from .case import Case
from .finding import Fix

Deploy = Callable[..., Outcome]  # fleet.deploy: it stands on the floor above, so whoever calls gives it
ENDS_WITHIN = 80.0  # seconds
FILES, BYTES = 20, 1 << 20  # the source: so many small files, and one of this size
# Nobody waits for long in a rehearsal.
BRISK: dict[str, Any] = {"reconnect": Reconnect(2, 15), "command_timeout": 20}


def rehearse(
    deploy: Deploy,
    settings: Settings,
    cases: Sequence[tuple[Case, Target]],
    token: str,
    config: fabric.Config | None,
) -> None:
    """Deploy twice to a folder of its own on all these hosts; a finding for each. All of it is removed."""
    folder, targets = f"{settings.deploy_to}/.switchover/rehearsal-{token}", [target for _, target in cases]
    brisk = replace(settings, ssh=replace(settings.ssh, **BRISK))
    started = time.monotonic()
    work = background(lambda: _deploy_twice(deploy, brisk, targets, folder, config))
    wait([work], ENDS_WITHIN)
    removed = _remove(brisk, targets, folder, config)
    seconds = time.monotonic() - started
    results = work.result() if work.done() else [None] * len(cases)
    for (case, _), result, gone in zip(cases, results, removed, strict=True):
        _judge(case, result, seconds)
        if not gone:
            _left_behind(case, folder)


def _deploy_twice(
    deploy: Deploy, settings: Settings, targets: Sequence[Target], folder: str, config: fabric.Config | None
) -> Sequence[HostResult]:
    addresses = [target.address for target in targets]
    with (
        last_failure.kept(addresses),  # what really failed before is not forgotten for this
        tempfile.TemporaryDirectory(prefix="switchover-rehearsal-") as source,
    ):
        small = _small(settings, folder, Path(source))
        for turn in (1, 2):
            (Path(source) / "turn").write_text(f"{turn}\n")
            outcome = deploy(small, targets, config=config)
            if outcome.exit_code:
                break
    return outcome.hosts


def _small(settings: Settings, folder: str, source: Path) -> Settings:
    """The same settings, apart from what is the site's own: its source, its shared files, its hooks."""
    for number in range(FILES):
        path = source / f"folder{number % 4}" / f"file{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"file {number}\n")
    (source / "large").write_bytes(bytes(BYTES))
    (source / "link").symlink_to("folder0/file0.txt")
    (source / "storage").mkdir()
    (source / "storage" / "seed").write_text("seed\n")
    return replace(
        settings, deploy_to=folder, source=Source(path=source), exclude=(), shared=Shared(dirs=("storage",)),
        hooks=Hooks(), health=None, confirm=None, keep_releases=1,
    )  # fmt: skip


def _judge(case: Case, result: HostResult | None, seconds: float) -> None:
    if result is None:
        case.fail("rehearsal", f"A small deployment has no end here: it ran for {ENDS_WITHIN:g} s.",
                  seconds=round(seconds, 1))  # fmt: skip
        return
    if result.ok:
        case.ok("rehearsal", f"Two small deployments were built, switched and removed in {seconds:.1f} s.",
                phases=result.phases, transfer=result.transfer, copy=result.copy)  # fmt: skip
        return
    error = result.error
    case.fail(
        "rehearsal",
        f"A small deployment fails here{f' in {result.failed_in}' if result.failed_in else ''}: "
        f"{error.what if error else 'nobody knows why'}",
        error.why if error else "",
        error.hint if error else "",
        step=result.failed_in, phases=result.phases, seconds=round(seconds, 1),
    )  # fmt: skip


def _remove(
    settings: Settings, targets: Sequence[Target], folder: str, config: fabric.Config | None
) -> list[bool]:
    """Remove it on each host; whether that was seen."""
    removed = []
    with opened(settings, targets, silent, config) as hosts:
        for host in hosts:
            removed.append(False)
            with contextlib.suppress(SwitchoverError, *LINK_ERRORS):
                host.connect()
                # What stood there before stays: rmdir removes only what is empty.
                own = str(Path(folder).parent)
                host.shell.run(
                    f"rm -rf {quote(folder)}; rmdir {quote(own)} 2>/dev/null; [ ! -e {quote(folder)} ]",
                    what="Removing the rehearsal",
                )
                removed[-1] = True
    return removed


def _left_behind(case: Case, folder: str) -> None:
    case.warn(
        "rehearsal", "The folder of the rehearsal could not be removed.", f"{folder} is still there",
        "It is not used by anything. Remove it by hand:", Fix("host", f"rm -rf {quote(folder)}"),
        folder=folder,
    )  # fmt: skip
