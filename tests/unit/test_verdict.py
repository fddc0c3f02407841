"""The verdict ranks findings, and folds those that follow from another under it."""

from __future__ import annotations

from fabfile.diagnosis import differences
from fabfile.diagnosis.finding import CATALOGUE, STAGES, Diagnosis, Finding
from fabfile.diagnosis.verdict import conclude, ordered


def findings(**status: str) -> dict[str, Finding]:
    """`sftp_missing="warn"`: the finding sftp-missing."""
    ids = {name.replace("_", "-"): value for name, value in status.items()}
    return {id: Finding(id, value, f"about {id}") for id, value in ids.items()}  # type: ignore[arg-type]


def roots(found: dict[str, Finding], phase: str = "") -> list[tuple[str, ...]]:
    verdict = conclude(found, {}, phase)
    return [(root.finding.id, *(child.id for child in root.explains)) for root in verdict.roots]


def test_a_failure_comes_before_a_warning() -> None:
    assert roots(findings(shell_noise="warn", disk_full="fail")) == [("disk-full",), ("shell-noise",)]


def test_what_follows_is_folded_under_its_root() -> None:
    found = findings(sftp_broken="fail", shell_noise="warn", clock_skew="warn")
    assert roots(found) == [("shell-noise", "sftp-broken"), ("clock-skew",)]


def test_the_phase_that_failed_comes_first() -> None:
    found = findings(sftp_slow="warn", disk_full="warn", home_missing="warn")
    assert roots(found)[0] == ("home-missing",)
    assert roots(found, "upload")[0] == ("sftp-slow",)


def test_advice_is_never_the_root_of_anything_else() -> None:
    assert roots(findings(strategy_advice="warn", clock_skew="warn"))[0] == ("clock-skew",)


def test_all_findings_are_listed_once_the_bad_ones_first() -> None:
    found = findings(dns="ok", sftp_broken="fail", shell_noise="warn", idle_nat="skip", account="ok")
    listed = [finding.id for finding in ordered(conclude(found, {}), found.values())]
    assert listed == ["shell-noise", "sftp-broken", "dns", "account", "idle-nat"]


def test_the_verdict_says_which_it_is() -> None:
    assert "Everything" in conclude(findings(dns="ok"), {}).what
    assert "Deployments fail here. about dns" in conclude(findings(dns="fail"), {}).what
    assert "reservation. about dns" in conclude(findings(dns="warn"), {}).what


def test_the_catalogue_is_sound() -> None:
    """Every stage is one, and what explains something else explains something that exists."""
    for id, entry in CATALOGUE.items():
        assert entry.stage in STAGES and id not in entry.explains
        assert set(entry.explains) <= set(CATALOGUE)


def test_hosts_are_told_apart() -> None:
    hosts = [
        Diagnosis(
            name, list(findings(sftp_missing=status).values()), facts={"server": "OpenSSH_9.2", "os": os}
        )
        for name, status, os in (
            ("a", "ok", "Debian 12"),
            ("b", "ok", "Debian 12"),
            ("c", "warn", "Debian 13"),
        )
    ]
    found = {d.fact: d.values for d in differences(hosts)}
    assert found == {
        "os": {"Debian 12": ("a", "b"), "Debian 13": ("c",)},
        "sftp-missing": {"ok": ("a", "b"), "warn": ("c",)},
    }
