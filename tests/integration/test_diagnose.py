"""`fab diagnose` as a person types it: what it prints, its document, its page, and what failures leave it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fabfile.diagnosis.finding import CATALOGUE
from tests.support.fab import ERROR_KEYS
from tests.support.hosts import IsolatedHosts
from tests.support.project import Project
from tests.support.skipping import unavailable

pytestmark = pytest.mark.timeout(120)

ESCAPE = "\x1b["


@pytest.fixture
def project(project: Project) -> Project:
    """A site, deployed."""
    project.deployed()
    return project


def incidents(project: Project) -> list[dict[str, object]]:
    """What failures have left on this machine."""
    folder = project.folder / "home/.local/state/switchover/incidents"
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def test_a_healthy_host(project: Project) -> None:
    """The verdict says that all works, with the evidence; nothing is left behind, and nothing was changed."""
    before = sorted(project.deploy_to.rglob("*"))
    done = project.fab("diagnose")
    done.says(
        "Everything a deployment needs works", "OpenSSH", "connect", "storage", "not looked at: add --deep"
    )
    assert ESCAPE not in done.stdout and not any(line != line.rstrip() for line in done.stdout.splitlines())
    assert sorted(project.deploy_to.rglob("*")) == before


def test_the_document_has_every_finding_once(project: Project) -> None:
    done = project.fab("diagnose", "--json")
    assert done.json["ok"] is True and done.json["exit_code"] == 0
    ids = [finding["id"] for finding in done.host["findings"]]
    assert sorted(ids) == sorted(CATALOGUE)
    for finding in done.host["findings"]:
        assert {"id", "status", "what", "why", "try", "evidence"} <= set(finding)
        assert finding["status"] in ("ok", "skip"), finding
    assert done.host["facts"]["live"] == project.live


def test_without_a_configuration(project: Project) -> None:
    """-H alone: connection, shell, SFTP and limits; the rest says what it would need."""
    home = project.folder / "home"
    done = project.fab("diagnose", "--json", cwd=home)
    status = {finding["id"]: finding["status"] for finding in done.host["findings"]}
    assert status["auth-failed"] == status["view-split"] == status["max-sessions"] == "ok"
    assert status["permissions"] == status["current-not-link"] == "skip"


def test_only_some_findings(project: Project) -> None:
    """--only looks for these, and for nothing that they don't need; a misspelt one is a usage error."""
    done = project.fab("diagnose", "--only", "sftp-missing,clock-skew", "--json")
    assert [finding["id"] for finding in done.host["findings"]] == ["sftp-missing", "clock-skew"]
    project.fab("diagnose", "--only", "sftp-mising", code=2).says("Did you mean sftp-missing?")


def test_a_host_that_fails(project: Project) -> None:
    """Exit code 1; the finding comes first, with its evidence and the very change that mends it."""
    done = project.fab("diagnose", hosts="deploy@127.0.0.1:1", code=1)
    done.says("Deployments fail here.", "nothing listens at 127.0.0.1 (port 1)", "tcp-refused", "seen", "try")
    found = project.fab("diagnose", "--json", hosts="deploy@127.0.0.1:1", code=1).host["findings"]
    assert (found[0]["id"], found[0]["status"]) == ("tcp-refused", "fail")
    assert found[0]["evidence"]["port"] == 1
    assert not [finding for finding in found[1:] if finding["status"] in ("warn", "fail")]


def test_the_page(project: Project) -> None:
    """One file that loads nothing, with the verdict, the way drawn, and no names when asked."""
    project.fab("diagnose", "--html", "report.html", "--anonymous")
    page = (project.folder / "report.html").read_text()
    assert "Everything a deployment needs works" in page and "<svg" in page
    assert not re.search(r"""(src|href)=|@import|url\(""", page)
    assert not re.search(rf"\b{re.escape(project.server.user)}\b", page)
    project.fab("diagnose", "--html", "no/such/folder.html", code=2).says("can't be written")


def test_a_failed_deployment_says_what_to_type_and_leaves_what_it_saw(project: Project) -> None:
    """The error names `fab diagnose` and the phase; diagnose knows of it; a deployment that works ends it."""
    (project.deploy_to / "releases").chmod(0o500)
    failed = project.fab("deploy", "--json", code=1)
    assert set(failed.host["error"]) == ERROR_KEYS
    phase = failed.host["failed_in"]
    address = project.address()
    advice = failed.host["error"]["try"].splitlines()
    assert f"It failed in {phase}. This looks for the cause:" in advice
    assert f"-H {address}" in advice[-1] and advice[-1].endswith(" diagnose")
    known = failed.host["error"]
    assert (known["step"], known["reason"], known["commands"]) == (phase, "denied", advice[-1:])
    (incident,) = incidents(project)
    assert incident["phase"] == phase and incident["host"] == address
    found = project.fab("diagnose", "--json", code=1)
    assert found.host["findings"][0]["id"] == "permissions"
    assert found.host["incident"]["phase"] == phase
    project.fab("diagnose", code=1).says(f"The last command failed in {phase}", "chown")
    (project.deploy_to / "releases").chmod(0o755)
    project.fab("diagnose").says(
        "Everything a deployment needs works", f"Yet the last command failed in {phase}"
    )
    project.fab("deploy")
    assert incidents(project) == []


def test_what_is_served_is_asked_for_as_a_deployment_does(project: Project) -> None:
    """The release that the answer names is found; the URL stands in no argument list meanwhile."""
    arguments: list[bytes] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    arguments.append((process / "cmdline").read_bytes())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 3_000_000 + b"served by " + older.encode())

        def log_message(self, *_: object) -> None:
            pass

    older = str(project.live)
    project.fab("deploy")
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{site.server_port}/healthz?key=S3cret&ROOT=SECONDS"
        project.configure(health={"url": url})
        found = project.fab("diagnose", "--json", code=1).host["findings"]
        site.shutdown()
    assert found[0]["id"] == "serves-old" and found[0]["evidence"]["older"] == [older], found[0]
    assert arguments and not [words for words in arguments if b"S3cret" in words]


def test_several_hosts(project: Project) -> None:
    """In parallel; the table comes first, and what they differ in last."""
    if os.geteuid() != 0:
        unavailable("mount namespaces need root")
    with IsolatedHosts(2, extra="MaxSessions 2") as pair:
        one, two = pair.hosts
        two.change("MaxSessions 10")
        for host in pair.hosts:
            host.give(host.site)
        project.configure(deploy_to=str(pair.common), source=None)
        project.server = one
        done = project.fab("diagnose", "--json", hosts=pair.addresses)
        assert len(done.json["hosts"]) == 2
        apart = {difference["fact"]: difference["values"] for difference in done.json["differences"]}
        names = [entry["host"] for entry in done.json["hosts"]]
        assert apart["max-sessions"] == {"warn": [names[0]], "ok": [names[1]]}
        project.fab("diagnose", hosts=pair.addresses).says(
            "Where the hosts differ", "max-sessions", "verdict"
        )
