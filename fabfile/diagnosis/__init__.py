"""Diagnosis: what is wrong between this machine and a host, with evidence, and what mends it.

finding (what can be found) → examination (one host, what probes share) → probes → verdict; this module
runs them. Scripts import `diagnose` and `differences`.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabric

from .. import interruption
from ..background import background
from ..errors import SwitchoverError
from ..events import Listener, StepFailed, StepStarted, silent
from ..hosts import AT_ONCE, Target, opened
from ..local import last_failure
from ..remote.connection import LINK_ERRORS, Connection
from ..remote.host import Host
from ..remote.sftp_session import NotSftp
from ..settings import Settings
from ..settings.model import Reconnect
from . import afterwards, rehearsal
from .examination import TIDY_WITHIN, WHOLE, Examination, OutOfTime, Probe, Unanswered, quiet
from .finding import CATALOGUE, Diagnosis, Finding, Login
from .probes import PROBES, network, sftp
from .rehearsal import Deploy
from .rules import network as rules_network
from .unexplained import settle
from .verdict import PHASES, conclude, differences, ordered

__all__ = ["CATALOGUE", "Diagnosis", "Finding", "diagnose", "differences"]


# A deployment is patient with a lost connection and a long command; a diagnosis wants to know of them.
BRISK: dict[str, Any] = {"reconnect": Reconnect(1, 15), "command_timeout": 30}
DEEP_BESIDES = 11.0  # seconds for all else, where idle connections are watched
GRACE = 4.0  # seconds beyond that, in which a probe that is under way may end
NO_DEPLOY_TO = "no deploy_to is given"
BY_CHOICE = (NO_DEPLOY_TO, "ssh.sftp is off")  # why an ability is missing that nobody has asked for


def diagnose(
    settings: Settings,
    targets: Sequence[Target] | None = None,
    *,
    deep: float | None = None,
    only: Sequence[str] = (),
    rehearse: Deploy | None = None,
    listener: Listener = silent,
    config: fabric.Config | None = None,
) -> list[Diagnosis]:
    """Examine all hosts in parallel; what is wrong with each, ranked. Changes nothing that it does not undo.

    deep: seconds that idle connections are watched, besides all else. only: ids of findings to look for.
    rehearse: fleet.deploy, with which two small deployments are built beside the site, and removed again.
    It ends within 60 seconds, and `deep`, whatever hangs; on Ctrl-C at once: with what is known by then.
    Raises ConfigError; trouble with a host is what its Diagnosis is about.
    """
    brisk = replace(settings, ssh=replace(settings.ssh, **BRISK))
    with opened(brisk, targets, listener, config) as hosts:
        runs = [_Run(host, settings, deep or 0.0, only) for host in hosts]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(run.watched) for run in runs]
            interruption.current.at_work(lambda: _stop(runs))
            try:
                wait(futures)
            except KeyboardInterrupt:  # in a script that has not taken signals
                _stop(runs)
            finally:
                wait(futures)
                interruption.current.over()
        for future in futures:
            future.result()
        if rehearse:
            _rehearse(rehearse, settings, runs, config)
        return [run.conclude() for run in runs]


def _rehearse(deploy: Deploy, settings: Settings, runs: Sequence[_Run], config: fabric.Config | None) -> None:
    """On those hosts where there is a place to do it; the others say why not."""
    able = []
    for run in runs:
        case = run.e
        if run.stop.is_set() or not case.layout:
            case.skip("rehearsal", NO_DEPLOY_TO if not case.layout else "it was interrupted", unknown=False)
        elif case.sights["command"].answer != "seen" or case.bad("path-hangs"):
            case.skip("rehearsal", "it needs a shell, and a deploy_to that answers")
        else:
            host = case.host
            able.append((case, Target(host.connection.address, host.identity)))
    if able:
        rehearsal.rehearse(deploy, settings, able, runs[0].e.token, config)


def _stop(runs: Sequence[_Run]) -> None:
    for run in runs:
        run.stop.set()


class _Run:
    """The examination of one host, in a thread that may hang."""

    def __init__(self, host: Host, settings: Settings, deep: float, only: Sequence[str]) -> None:
        self.incident = last_failure.read(host.connection.address)
        self.only = only
        self.deep = deep
        self.stop = threading.Event()
        self.e = e = Examination(host, settings, lambda interval: _again(host, interval))
        if e.layout is None:
            e.abilities["deploy_to"] = NO_DEPLOY_TO
        else:
            e.grant("deploy_to")
        e.deep = deep

    @property
    def phase(self) -> str:
        """Where the last command failed, "" if none did."""
        return afterwards.phase(self.incident)

    def watched(self) -> None:
        """Examine, and wait no longer than that may take."""
        self.e.until = time.monotonic() + max(WHOLE, self.deep + DEEP_BESIDES)
        work = background(self._examine)
        while not work.done() and not self.stop.wait(0.05) and time.monotonic() < self.e.until + GRACE:
            pass
        if self.stop.is_set():  # its probe ends at its next step; what it has made on the host is removed
            self.e.until = time.monotonic()
            wait([work], TIDY_WITHIN)
        self.e.host.connection.interrupted.set()
        why = "the diagnosis was interrupted" if self.stop.is_set() else "the time for a diagnosis was over"
        for probe in PROBES:
            for id in set(probe.covers) - set(self.e.findings):
                self.e.skip(id, why, unknown=not probe.deep)
        if work.done():
            work.result()

    def _examine(self) -> None:
        e = self.e
        try:
            for probe in _plan(self.only, self.phase, bool(self.deep)):
                _try(e, probe)
        except OutOfTime:
            return
        finally:
            e.tidy()
        if not self.deep:
            for id in _idle_ids() - set(e.findings):
                e.skip(id, "add --deep to look at it", unknown=False)
        if self.only:
            for id in set(CATALOGUE) - set(e.findings):
                e.skip(id, "--only did not ask for it", unknown=False)

    def conclude(self) -> Diagnosis:
        """The verdict, drawn from all that was seen."""
        e = self.e
        if "rehearsal" not in e.findings:
            e.skip("rehearsal", "add --rehearse to try it", unknown=False)
        if not self.only:
            settle(e, e.address)
        findings = dict(e.findings)
        if self.only:
            findings = {id: f for id, f in findings.items() if id in self.only or f.bad}
        verdict = conclude(findings, e.facts, self.phase)
        if self.incident and not verdict.roots and not self.deep:
            verdict = replace(verdict, what=f"{verdict.what} {afterwards.addition(self.incident)}")
        at = e.host.connection
        e.named("machine", e.facts.get("machine", ""))
        hop = at.gateway
        while isinstance(hop, Connection):
            e.named("jump-host", hop.host, hop.original_host)
            e.named("user", hop.user)
            hop = hop.gateway
        login = Login(at.user, at.original_host, at.host, e.names)
        found = ordered(verdict, findings.values())
        return Diagnosis(e.host.name, found, verdict, e.facts, e.seconds, e.idle, self.incident, login)


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
    """Run one probe; what it leaves open is ok, or unknown where it did not come to its end."""
    e.left(1.0)
    blocked = next((need for need in probe.needs if not e.has(need)), None)
    if blocked is not None:
        chosen = e.abilities.get(blocked) in BY_CHOICE
        for id in probe.covers:
            if id not in e.findings:
                e.skip(id, _because(e, blocked), unknown=not chosen)
        return
    started, reconnects = time.monotonic(), e.connection.reconnects - len(e.losses)
    e.host.emit(StepStarted(e.host.name, probe.stage))
    why = _run(e, probe)
    if e.connection.reconnects - len(e.losses) > reconnects and not e.bad("link-cut") and not e.bad("mtu"):
        e.lost(probe.stage, "it had to be made again between two commands", again=False)
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
        except (Unanswered, SwitchoverError, NotSftp, *LINK_ERRORS) as error:
            if time.monotonic() >= e.until:  # it was given less than it needs: that says nothing of the host
                raise OutOfTime from error
            why = _words(error)
            e.close_sftp()
            if e.connection.transport is None:
                return why
            if e.connection.still_alive() and e.answers():
                _gave_up(e, probe, error, why)
                return why
            _lost(e, probe.stage, why, again=turn == 2)
            if turn == 2 or not _reopened(e):
                return f"the connection was lost: {why}"
        except OutOfTime:
            raise
        except Exception as error:  # noqa: BLE001  (one probe's mistake must not hide what the others see)
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            what = f"{type(error).__name__}: {error} ({where})"
            if os.environ.get("SWITCHOVER_DEBUG"):
                traceback.print_exception(error)
            e.mistakes.append(f"{probe.stage}: {what}")
            return f"this is a mistake of Switchover's, not the host's: {what}"
    return ""


def _gave_up(e: Examination, probe: Probe, error: BaseException, why: str) -> None:
    """A probe did not come to its end, though the connection lives."""
    if isinstance(error, Unanswered):
        e.unexplained(probe.stage, why)
    elif "sftp" in probe.needs and not isinstance(error, SwitchoverError):
        sftp.stops_answering(e, why)


def _lost(e: Examination, stage: str, why: str, *, again: bool) -> None:
    """The connection died, or fell silent, under a probe."""
    silent = e.connection.alive
    e.connection.client.close()
    if silent and again and network.small_segments_carry(e):
        rules_network.large_packets_vanish(e, f"{stage}: {why}, each time")
    else:
        e.lost(stage, why, again=again)


def _words(error: BaseException) -> str:
    said = f"{error.what} {error.why}" if isinstance(error, SwitchoverError) else str(error)
    return said.strip() or type(error).__name__


def _reopened(e: Examination) -> bool:
    try:
        e.connection.reopen("a probe lost it")
        e.since = time.monotonic()
    except SwitchoverError:
        e.abilities.update(dict.fromkeys(("connection", "shell", "sftp"), "the connection was lost"))
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
