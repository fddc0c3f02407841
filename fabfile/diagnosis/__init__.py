"""Diagnosis: what is wrong between this machine and a host, with evidence, and what mends it.

finding (what can be found) → examination (one host, what probes share) → probes → verdict; this module
runs them. Scripts import `diagnose` and `differences`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import fabric

from .. import incidents
from ..errors import SwitchoverError
from ..events import Listener, StepFailed, StepStarted, silent
from ..hosts import AT_ONCE, Target, opened
from ..remote.connection import LINK_ERRORS, Connection
from ..remote.host import Host
from ..remote.sftp_session import NotSftp
from ..settings import Settings
from ..settings.model import Reconnect
from .examination import ANSWER_WITHIN, Examination, Probe, quiet
from .finding import CATALOGUE, Diagnosis, Finding, Login
from .probes import PROBES
from .verdict import PHASES, conclude, differences, ordered

__all__ = ["CATALOGUE", "Diagnosis", "Finding", "diagnose", "differences"]


# A deployment is patient with a lost connection and a long command; a diagnosis wants to know of them.
BRISK: dict[str, Any] = {"reconnect": Reconnect(1, 15), "command_timeout": 30}
AFTERWARDS = (
    "Yet the last command failed in {phase}: whatever it was may come and go, or show only after a while. "
    "--deep watches what happens to connections that are idle."
)


def diagnose(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    deep: float | None = None,
    only: Sequence[str] = (),
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> list[Diagnosis]:
    """Examine all hosts in parallel; what is wrong with each, ranked. Changes nothing that it does not undo.

    deep: seconds that idle connections are watched, besides all else. only: ids of findings to look for.
    Raises ConfigError; trouble with a host is what its Diagnosis is about.
    """
    brisk = replace(settings, ssh=replace(settings.ssh, **BRISK))
    with opened(brisk, targets, listener, config) as hosts, ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(_examine, host, settings, deep, only) for host in hosts]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            for host in hosts:
                host.connection.interrupted.set()
            raise


def _examine(host: Host, settings: Settings, deep: float | None, only: Collection[str]) -> Diagnosis:
    incident = incidents.read(host.connection.address)
    phase = str(incident["phase"]) if incident else ""
    e = Examination(host, settings, lambda interval: _again(host, interval))
    if e.layout is None:
        e.abilities["deploy_to"] = "no deploy_to is given"
    else:
        e.grant("deploy_to")
    e.deep = deep or 0.0
    try:
        for probe in _plan(only, phase, bool(deep)):
            _try(e, probe)
    finally:
        e.tidy()
    if not deep:
        for id in _idle_ids() - set(e.findings):
            e.skip(id, "--deep looks at it: it takes waiting")
    if only:
        e.findings = {id: f for id, f in e.findings.items() if id in only or f.bad}
    verdict = conclude(e.findings, e.facts, phase)
    if incident and not verdict.roots and not deep:
        verdict = replace(verdict, what=f"{verdict.what} {AFTERWARDS.format(phase=phase)}")
    findings = ordered(verdict, e.findings.values())
    at = host.connection
    login = Login(at.user, at.original_host, at.host)
    return Diagnosis(host.name, findings, verdict, e.facts, e.seconds, e.idle, incident, login)


def _idle_ids() -> set[str]:
    return {id for id, entry in CATALOGUE.items() if entry.stage == "idle"}


def _again(host: Host, interval: float) -> Connection:
    """One more connection to the same host, by the same ways in, with another keepalive."""
    return host.connection.again(quiet(host.connection.rules, interval))


def _plan(only: Collection[str], phase: str, deep: bool) -> list[Probe]:
    """The probes to run: those asked for and what they need; those of the phase that failed come first."""
    chosen = [probe for probe in PROBES if deep or not probe.deep]
    if only:
        wanted = [probe for probe in chosen if set(probe.covers) & set(only)]
        needed = {need for probe in wanted for need in (*probe.needs, "connection")}
        while more := {n for p in chosen if set(p.grants) & needed for n in p.needs} - needed:
            needed |= more
        chosen = [probe for probe in chosen if probe in wanted or set(probe.grants) & needed]
    first = PHASES.get(phase, ())
    # What others need keeps its place.
    basics = [probe for probe in chosen if probe.grants or probe.covers == ("max-sessions",)]
    others = [probe for probe in chosen if probe not in basics]
    return basics + sorted(others, key=lambda probe: (probe.deep, probe.stage not in first))


def _try(e: Examination, probe: Probe) -> None:
    """Run one probe; what it leaves open is ok, or skipped where it could not look."""
    blocked = next((need for need in probe.needs if not e.has(need)), None)
    if blocked is not None:
        for id in probe.covers:
            if id not in e.findings:
                e.skip(id, _because(e, blocked))
        return
    started = time.monotonic()
    e.host.emit(StepStarted(e.host.name, probe.stage))
    why = _run(e, probe)
    for id in probe.covers:
        if id not in e.findings:
            e.skip(id, why) if why else e.ok(id)
    for ability in probe.grants:
        if not e.has(ability):
            culprit = next((id for id, finding in e.findings.items() if finding.status == "fail"), "")
            e.abilities.setdefault(ability, culprit or "it was not seen to work")
    took = time.monotonic() - started
    e.seconds[probe.stage] = round(e.seconds.get(probe.stage, 0.0) + took, 3)
    for id in probe.covers:
        if e.bad(id):
            e.host.emit(StepFailed(e.host.name, probe.stage, took, e.findings[id].what))


def _run(e: Examination, probe: Probe) -> str:
    """Run it, once more where the connection died under it; why it could not come to its end, or ""."""
    for turn in (1, 2):
        try:
            if left := probe.run(e):
                return left
            if probe.grants and any(e.bad(id) for id in probe.covers):
                return "what was found keeps the rest from being seen"
            return ""
        except (SwitchoverError, NotSftp, *LINK_ERRORS) as error:
            why = f"{error.what} {error.why}" if isinstance(error, SwitchoverError) else str(error)
            why = why or type(error).__name__
            e.close_sftp()
            if e.connection.transport is None or turn == 2:
                return why
            if e.connection.still_alive():
                if e.answers():
                    return why
                _silent(e, probe)
            if not _reopened(e):
                return f"the connection was lost: {why}"
        except Exception as error:  # noqa: BLE001  (one probe's mistake must not hide what the others see)
            return f"the probe itself made a mistake: {type(error).__name__}: {error}"
    return ""


def _silent(e: Examination, probe: Probe) -> None:
    e.fail(
        "peer-lossy",
        "The host fell silent in the middle.",
        f"no answer to anything for {ANSWER_WITHIN:g} s, while looking at {probe.stage}; the connection "
        "was not closed",
        "A firewall that drops long connections, a network that is down, or a host that hangs. Try again, "
        "and from another network.",
        stage=probe.stage, waited=ANSWER_WITHIN,
    )  # fmt: skip


def _reopened(e: Examination) -> bool:
    try:
        e.connection.close()
        e.connection.open()
    except SwitchoverError:
        e.abilities["connection"] = e.abilities["shell"] = e.abilities["sftp"] = "the connection was lost"
        return False
    return True


def _because(e: Examination, ability: str) -> str:
    names = {
        "connection": "a connection", "shell": "a shell", "sftp": "SFTP",
        "place": "a place to write to, in deploy_to or the home", "deploy_to": "deploy_to",
    }  # fmt: skip
    said = e.abilities.get(ability, "")
    if said in CATALOGUE:
        said = f"see {said}"
    return f"needs {names[ability]}" + (f": {said}" if said else "")
