"""What evidence means: the rules of the diagnosis, without a host."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fabfile.diagnosis import afterwards
from fabfile.diagnosis.case import Case
from fabfile.diagnosis.evidence import ABILITIES, NEEDS_DEPLOY_TO
from fabfile.diagnosis.rules import protocols, serving, shell, storage, way_in
from fabfile.diagnosis.rules.account import Startup
from fabfile.diagnosis.rules.tried import Tried
from fabfile.diagnosis.unexplained import settle
from fabfile.errors import AuthenticationFailed, ConnectionFailed, OwnMistake, SwitchoverError
from fabfile.local import last_failure
from fabfile.on_host.layout import Layout
from fabfile.remote.raw_ssh import Greeting, Said
from fabfile.settings import Settings

SITE = "/srv/shop"
ASKED = shell.Plain(1234, 57)


def case(**settings: Any) -> Case:
    return Case(Settings(deploy_to=SITE, **settings))


def named(of: Case) -> list[str]:
    """What was found wrong, in no order."""
    return sorted(finding.id for finding in of.findings.values() if finding.bad)


# -- the way in ------------------------------------------------------------------------------------------


def way(stage: str, cause: str, **seen: Any) -> way_in.WayIn:
    error = ConnectionFailed("No connection.", "seen", stage=stage, cause=cause)
    return way_in.WayIn("web1", 22, "joe", 5.0, error, 0.1, **seen)


def greeted(text: bytes, *, closed: bool = False, seconds: float = 0.1) -> Greeting:
    return Greeting(None, text, closed, seconds, {})


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (way("tcp", "refused"), "tcp-refused"),
        (way("tcp", "silent"), "tcp-filtered"),
        (way("tcp", "unreachable", route=True), "tcp-filtered"),
        (way("tcp", "unreachable", route=False), "host-unreachable"),
        (way("tcp", "no such name"), "dns"),
        (way("tcp", "refused", through="bastion"), "jump"),
        (way("greeting", "ended", proxy="nc %h %p"), "proxy-command"),
        (way("greeting", "ended", greeting=greeted(b"", closed=True)), "banner-refused"),
        (way("greeting", "silent", greeting=greeted(b"")), "banner-silent"),
        (way("greeting", "silent", greeting=greeted(b"SSH-2.0-Op")), "banner-silent"),
        (way("greeting", "silent", greeting=greeted(b"SSH-2.0-x\r\n", seconds=8.0)), "slow-login"),
        (way("greeting", "not ssh", greeting=greeted(b"220 mail ESMTP\r\n")), "not-ssh"),
        (way("greeting", "silent", greeting=greeted(b""), asked=b"HTTP/1.1 400 Bad Request"), "not-ssh"),
        (way("key exchange", "ended", carried=False, asked=protocols.ASKED), "not-ssh"),
        (way("key exchange", "silent", carried=False, small=True), "mtu"),
        (way("key exchange", "silent", carried=False, small=False), "link-cut"),
        (way("login", "reset", carried=False), "link-cut"),
        (way("login", "ended", carried=True), "account"),
        (way("login", "silent", carried=True), "unexplained"),
    ],
)
def test_each_way_of_not_getting_in_has_its_name(seen: way_in.WayIn, expected: str) -> None:
    """And what was reached before it is noted as seen."""
    found = case()
    way_in.explain(found, seen)
    assert named(found) == [expected]
    assert found.sights["port"].answer == ("not seen" if seen.error.stage == "tcp" else "seen")


def test_a_refusal_lists_what_it_can_mean_the_likeliest_first() -> None:
    """With what speaks for each, and the words in the server's log that decide it."""
    error = AuthenticationFailed("refused", "no", offered=("id_ed25519",), methods=("publickey",))
    seen = dataclasses.replace(way("login", "login refused"), error=error, user="root", named_user=True)
    found = case()
    way_in.explain(found, seen)
    finding = found.findings["auth-failed"]
    causes = finding.evidence["causes"]
    assert "PermitRootLogin" in causes[0] and "authorized_keys" in causes[1]
    assert "ROOT LOGIN REFUSED" in finding.hint and "Failed publickey for root" in finding.hint


@pytest.mark.parametrize(
    ("why", "farewell", "expected"),
    [
        ("offered: /home/account/too many/closed.key", "", "auth-failed"),
        ("the server ended the connection", "Too many authentication failures", "auth-too-many"),
        ("the server ended the connection", "User account has expired", "account"),
    ],
)
def test_a_refusal_goes_by_the_servers_words_alone(why: str, farewell: str, expected: str) -> None:
    error = AuthenticationFailed("refused", why, farewell=farewell)
    found = case()
    way_in.explain(found, dataclasses.replace(way("login", "login refused"), error=error))
    assert named(found) == [expected]


# -- commands --------------------------------------------------------------------------------------------


def said(out: bytes = b"", status: int = 0, *, ended: bool = True) -> Said:
    return Said(status, out, b"", 0.1, ended)


@pytest.mark.parametrize(
    ("first", "plain", "more", "expected"),
    [
        (said(b"hi"), said(b"hi"), {}, "shell-forced"),
        (said(b"exec /bin/sh -c x"), said(b"echo $((7*1234)); exit 57"), {}, "shell-forced"),
        (said(), said(status=57), {"sftp": True}, "shell-startup"),
        (said(), said(), {"sftp": True}, "shell-startup"),
        (said(), said(), {"sftp": True, "is_sftp": True}, "sftp-only"),
        (said(status=1), said(status=1), {}, "shell-restricted"),
        (said(status=7), said(status=7), {"startup": Startup(True, "/opt/gate")}, "shell-restricted"),
        (said(b"rbash: restricted", 1), said(b"8638", 57), {}, "shell-restricted"),
        (said(b"sh: 1: Cannot fork", 2), said(b"8638", 57), {}, "limits"),
        (said(b"/home/joe/.bashrc: line 1: no", 127), said(b"", 127), {}, "shell-startup"),
        (said(status=-1), said(status=-1), {}, "unexplained"),
    ],
)
def test_who_is_in_the_way_of_a_command(
    first: Said, plain: Said, more: dict[str, Any], expected: str
) -> None:
    found = case()
    seen = {"startup": Startup(), "sftp": False, **more}
    shell.explain(found, shell.Refusal("joe", first, ASKED, plain, **seen))
    assert named(found) == [expected]
    assert found.sights["command"].answer == "not seen"


# -- storage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "step", "words", "expected"),
    [
        ("releases", "mkdir", "mkdir: Permission denied", "permissions"),
        ("cache", "write", "sh: No space left on device", "disk-full"),
        (".switchover", "write", "sh: Disk quota exceeded", "quota"),
        ("releases", "mkdir", "mkdir: Read-only file system", "read-only"),
        ("releases", "rename", "mv: Operation not permitted", "no-atomic-rename"),
        ("releases", "chmod", "chmod: Operation not permitted", "permissions"),
        ("shared", "mkdir", "mkdir: Stale file handle", "path-hangs"),
        ("releases", "mkdir", "mkdir: Input/output error", "unexplained"),
    ],
)
def test_each_step_that_fails_in_a_folder_has_its_cause(
    folder: str, step: str, words: str, expected: str
) -> None:
    rows = {
        "at": [SITE], "failed": [f"{SITE}/{folder}\t{step}\troot:root, mode 755\t10\t10\t{words}"],
        "mkdir": ["ok"], "write": ["ok"], "files": ["ok"], "symlink": ["ok"], "link": ["b"],
    }  # fmt: skip
    found = case()
    found.facts["file system"] = "ext4"
    storage.judge(found, Tried.of(rows, Layout(SITE), "joe"), 0)
    assert named(found) == [expected]
    assert found.sights["folders"].answer == "not seen"


def test_what_a_host_did_not_say_is_no_no() -> None:
    """A row that is missing: neither a link that can't be made, nor one that can."""
    found = case()
    rows = {"at": [SITE], "mkdir": ["ok"], "write": ["ok"], "files": ["ok"]}
    storage.judge(found, Tried.of(rows, Layout(SITE), "joe"), 0)
    assert named(found) == [] and found.findings["no-symlink"].unknown
    assert found.sights["link"].answer == "unknown"


# -- serving ---------------------------------------------------------------------------------------------


def test_a_process_of_an_older_release_is_named() -> None:
    """And one that a person uses by hand is not."""
    found = case()
    live = f"{SITE}/releases/20260102000000"
    old = f"{SITE}/releases/20260101000000"
    serving.processes(found, live, [f"7\tbash\tcwd\t{old}"], [])
    assert named(found) == []
    serving.processes(found, live, [f"7\tbash\tcwd\t{old}", f"8\tphp-fpm8.2\tcwd\t{old} (deleted)"], [])
    assert named(found) == ["serves-old"]
    assert "pid 8" in found.findings["serves-old"].why and "pid 7" not in found.findings["serves-old"].why


def test_an_answer_that_names_an_older_release_fails() -> None:
    found = case()
    serving.fetched(found, {"status": ["200"], "older": ["20260101000000"]}, 200)
    assert found.findings["serves-old"].status == "fail"
    found = case()
    serving.fetched(found, {"status": ["200"], "names": ["20260102000000"], "older": ["1"]}, 200)
    assert named(found) == []


# -- what nobody knows -----------------------------------------------------------------------------------


def test_works_needs_everything_basic_to_be_seen() -> None:
    """Each ability alone, not seen, keeps the verdict from being that all works."""
    for missing in [name for name, ability in ABILITIES.items() if ability.basic]:
        found = case()
        for ability in ABILITIES:
            if ability != missing:
                found.saw(ability)
        settle(found, "joe@web1:22")
        assert named(found) == ["unexplained"], missing
        assert found.findings["unexplained"].evidence["unseen"] == [missing]


def test_without_deploy_to_nothing_below_it_is_needed() -> None:
    found = Case(Settings())
    for ability in set(ABILITIES) - set(NEEDS_DEPLOY_TO):
        found.saw(ability)
    settle(found, "joe@web1:22")
    assert named(found) == []


def test_unexplained_has_all_that_was_seen_and_a_text_to_send() -> None:
    found = case()
    found.saw("login", seconds=0.25)
    found.missed("command", "exit status 99")
    found.unexplained("shell", "it said xyzzy")
    settle(found, "joe@web1:22")
    finding = found.findings["unexplained"]
    assert "the login is accepted (0.25 s)" in finding.why and "exit status 99" in finding.why
    assert ABILITIES["login"].excludes in finding.hint
    assert finding.fix is not None and finding.fix.where == "send"
    assert "joe@web1:22" in finding.fix.change and "xyzzy" in finding.fix.change


def test_a_mistake_of_ours_is_told_as_one() -> None:
    found = case()
    found.mistakes.append("shell: KeyError: 'x' (shell.py:1)")
    settle(found, "joe@web1:22")
    finding = found.findings["unexplained"]
    assert "no fault of the host's" in finding.what and "KeyError" in finding.why and finding.fix is None


# -- the last failure ------------------------------------------------------------------------------------


def test_a_failure_leaves_its_kind_and_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What code needs to know, beside the sentences; and a rehearsal changes nothing of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    error = ConnectionFailed("No connection.", "why", stage="login", cause="silent")
    last_failure.write("joe@web1", "upload", error, reconnects=2, losses=["reset", "reset"])
    with last_failure.kept(["joe@web1", "joe@web2"]):
        last_failure.forget("joe@web1")
        last_failure.write("joe@web2", "connect", error)
    record = last_failure.read("joe@web1")
    assert record is not None and last_failure.read("joe@web2") is None
    assert (record["kind"], record["stage"], record["cause"]) == ("ConnectionFailed", "login", "silent")
    assert "2 reconnections before: reset" in afterwards.told(record)
    json.dumps(record)


@pytest.mark.parametrize(
    ("error", "phase"), [(OwnMistake("x", "KeyError"), ""), (SwitchoverError("x"), "upload")]
)
def test_no_step_is_looked_at_first_for_a_mistake_of_ours(
    error: SwitchoverError, phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    last_failure.write("joe@web1", "upload", error)
    record = last_failure.read("joe@web1")
    assert record is not None and afterwards.phase(record) == phase
    assert ("no fault of the host's" in afterwards.addition(record)) == (phase == "")
