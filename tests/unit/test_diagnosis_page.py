"""The page of a diagnosis: what hosts say is only ever text in it, and the broken link is where it broke."""

from __future__ import annotations

import re
from pathlib import Path

from fabfile.diagnosis.finding import Diagnosis, Finding, Fix, IdleLife
from fabfile.diagnosis.verdict import conclude, ordered
from fabfile.report import html, names

EVIL = '<script>alert(1)</script> & "quotes"'


def page(folder: Path, *found: Finding, idle: tuple[IdleLife, ...] = (), anonymous: bool = False) -> str:
    by_id = {finding.id: finding for finding in found}
    facts = {"server": EVIL, "user": "joe"}
    verdict = conclude(by_id, facts)
    host = Diagnosis("web1", ordered(verdict, found), verdict, facts, {"connect": 0.1}, list(idle))
    html.write(folder / "page.html", [host], [], names.of([host]) if anonymous else None)
    return (folder / "page.html").read_text()


def stations(text: str) -> dict[str, str]:
    """Each drawn station with its state."""
    return {
        name: state
        for state, name in re.findall(
            r'<g class="station (\w+)">.*?<text[^>]*>\S+ ([^<]+)</text>', text, re.DOTALL
        )
    }


def test_what_a_host_says_is_never_markup(tmp_path: Path) -> None:
    fix = Fix("host", f"chown {EVIL}")
    found = Finding("permissions", "fail", EVIL, EVIL, EVIL, {"path": EVIL, "more": [EVIL]}, fix)
    text = page(tmp_path, found, idle=(IdleLife(EVIL, 3.0, "closed"),))
    assert "<script" not in text and text.count("&lt;script&gt;") >= 8


def test_the_broken_link_is_marked(tmp_path: Path) -> None:
    fine = [
        Finding(id, "ok", "") for id in ("dns", "banner-silent", "shell-forced", "peer-lossy", "permissions")
    ]
    drawn = stations(page(tmp_path, *fine, Finding("sftp-missing", "warn", "No SFTP.")))
    assert drawn == {
        "client": "ok", "network": "ok", "sshd": "ok", "shell": "ok", "SFTP": "warn", "file system": "ok",
    }  # fmt: skip
    text = page(tmp_path, Finding("tcp-filtered", "fail", "Swallowed."))
    assert stations(text)["network"] == "fail" and stations(text)["shell"] == "skip"
    assert '<line class="link fail"' in text


def test_secrets_and_on_request_names_are_left_out(tmp_path: Path) -> None:
    found = Finding(
        "account", "fail", "joe may not", "password=hunter2 for joe", evidence={"home": "/home/joe"}
    )
    assert "hunter2" not in page(tmp_path, found) and "joe" in page(tmp_path, found)
    assert "joe" not in page(tmp_path, found, anonymous=True)
