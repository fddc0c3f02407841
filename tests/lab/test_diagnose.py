"""Faults of the lab are named, first, with evidence; doing what the finding advises makes them go away.

A sample by stage: `inv lab` makes all faults and all healthy hosts.
"""

from __future__ import annotations

import os
import random
import shutil

import pytest

from fabfile.diagnosis.finding import CATALOGUE
from tests.lab import sshd10
from tests.lab.faults import FAULTS, Fault
from tests.lab.judge import alarms, judge
from tests.support.examined import ExaminedHost

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("clean_environment", "sshd_installed")]

SEED, OF_EACH = 3, 2
HEALTHY = (
    "OpenSSH with a site",
    "OpenSSH, external sftp-server",
    "Dropbear",
    "OpenSSH behind HAProxy",
    "OpenSSH 10",
    "login shell fish",
    "start-up file: set -x",
    "start-up file: umask 077",
    "busybox's programs only",
    "toybox's programs only",
)
NEEDS = {"Dropbear": "dropbear", "OpenSSH behind HAProxy": "haproxy", "OpenSSH through a NAT": "nft"}


def skip(missing: str) -> None:
    """Skip where something is missing; in CI only root may be."""
    if missing and missing != "root" and os.environ.get("CI"):
        pytest.fail(f"not installed: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"needs {missing}")


def sample() -> list[Fault]:
    """Some of each stage; what waits or needs a network of its own is left to the lab's own run."""
    stages: dict[str, list[Fault]] = {}
    for fault in FAULTS:
        if not fault.slow and not fault.deep and "nft" not in fault.programs:
            stages.setdefault(CATALOGUE[fault.expects].stage, []).append(fault)
    draw = random.Random(SEED)
    return [fault for some in stages.values() for fault in draw.sample(some, min(OF_EACH, len(some)))]


@pytest.mark.parametrize("control", HEALTHY)
def test_a_healthy_host_raises_no_alarm(control: str) -> None:
    """Nothing fails and nothing is warned of, whichever server it is."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    program = NEEDS.get(control)
    skip("root" if os.geteuid() != 0 and program else "")
    if control == "OpenSSH 10" and sshd10.missing():
        pytest.skip(f"needs {sshd10.missing()}")
    skip(program if program and not shutil.which(program, path=path) else "")
    assert [(f["id"], f["what"], f["why"]) for f in alarms(control)] == []


def test_diagnosing_does_not_cause_what_it_looks_for() -> None:
    """OpenSSH 10 shuts out addresses that behave badly: twenty diagnoses in a row stay welcome."""
    if sshd10.missing():
        pytest.skip(f"needs {sshd10.missing()}")
    with sshd10.Sshd10() as server:
        place = ExaminedHost(server, deploy_to=server.new_dir())
        for _ in range(20):
            found = place.examine()
            assert found["ok"], found["verdict"]
        assert "penalty" not in server.log().lower(), server.log()


@pytest.mark.parametrize("fault", sample(), ids=lambda fault: fault.name)
def test_a_fault_is_named_and_mended(fault: Fault) -> None:
    """The right finding comes first, with what was measured; nothing else fails; its advice helps."""
    skip(fault.missing)
    verdict = judge(fault)
    assert verdict.right, verdict
    assert verdict.first["evidence"] and verdict.first["why"] and verdict.first["try"], verdict.first
