"""What a person sees: grouped by cause, in plain words, and what comes from a host never as markup."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.errors import HookFailed, HostNotReady, Stopped, SwitchoverError
from fabfile.events import Note, Output, Progress, StepFailed, StepFinished, StepStarted, size
from fabfile.fleet import Holding, Listing
from fabfile.on_host.lock import Owner
from fabfile.on_host.manifest import Difference
from fabfile.on_host.records import GOOD, LIVE, Record
from fabfile.report import console, documents, lists, live, screen
from fabfile.results import HostResult, Outcome
from fabfile.typed import Typed

MARKUP = "[bold]x[/bold] [/] [link=https://evil.example]y[/link]"
EVENTS = [
    StepStarted("web1", "hook"),
    Output("web1", "hook", MARKUP),
    Note("web1", "warn", MARKUP),
    Note("web1", "info", MARKUP),
    StepFinished("web1", "hook", 1.0, MARKUP),
    StepFailed("web1", "hook", 1.0, MARKUP),
    Progress("web1", "upload", 1, 2, 10, 20),
]
NEW, OLD = "20261125033011", "20261124120000"
NAMES = [f"web{number}" for number in range(1, 21)]


@pytest.mark.promise("markup")
@pytest.mark.parametrize("event", EVENTS[1:6], ids=lambda event: type(event).__name__)
def test_no_markup_of_a_host_is_interpreted(event: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with console.Live() as shown:
        shown.listen(StepStarted("web1", "hook"))
        shown.listen(event)
    assert MARKUP in capsys.readouterr().out


# -- what went wrong -----------------------------------------------------------------------------------


def failed(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> str:
    console.show_error(outcome)
    return capsys.readouterr().err


def test_every_hosts_own_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    first = HostNotReady("No room on web1.", "1 byte is free", "Free some.")
    second = HookFailed("The hook failed on web2.", "exit status 7", "Run it by hand.")
    hosts = [
        HostResult("web1", ok=False, error=first),
        HostResult("web2", ok=False, error=second),
        HostResult("web3", ok=False, error=Stopped("web3 was stopped.", "", "")),
    ]
    said = failed(Outcome(1, first, hosts), capsys)
    for words in ("No room on web1.", "1 byte is free", "The hook failed on web2.", "exit status 7"):
        assert words in said
    assert said.count("No room on web1.") == 1, "the one error that stands for all is not told twice"
    assert "· web3 did not go on, because web1, web2 failed" in said


def test_twenty_hosts_with_one_cause_are_one_block(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where each names itself; the one that is to be read first comes first."""
    hosts = [HostResult(name, release=NEW, live=OLD, ok=False) for name in NAMES]
    for host in hosts[:14]:
        host.error = HostNotReady(f"No room on {host.host}.", f"{host.host}: 1 byte is free", "Free some.")
    hosts[16].error = other = HookFailed("The hook failed.", "exit status 7", "Run it by hand.")
    for host in hosts:
        host.error = host.error or Stopped(f"{host.host} was stopped.")
    said = failed(Outcome(1, other, hosts), capsys)
    assert said.count("No room") == 1 and said.count("Free some.") == 1
    assert said.index("web17: The hook failed.") < said.index("14 hosts: No room")
    assert "on:  web1, web2, web3" in said
    assert "· 5 hosts did not go on, because 15 hosts failed" not in said, "each that waited is named"
    assert said.splitlines()[-1] == f"✗ {NEW} is not live; {OLD} is live on 20 hosts"


def test_what_is_served_after_a_switch_back_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And does not tear apart hosts with the same cause."""
    hosts = [HostResult(name, release=NEW, live=OLD, ok=False) for name in ("web1", "web2")]
    for host in hosts:
        host.error = HookFailed("The hook failed.", "exit status 3")
    outcome = Outcome(3, hosts[0].error, hosts, [f"web1, web2: {OLD} is live again"])
    said = failed(outcome, capsys)
    assert said.count("exit status 3") == said.count("is live again") == 1
    assert documents.deployment(outcome)["error"]["why"] == f"exit status 3\nweb1, web2: {OLD} is live again"


def test_what_is_to_be_typed_is_never_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "fab -i /home/me/keys/id_ed25519 -H deploy@web1.example.com:2222 diagnose --deploy-to /srv/shop"
    error = HostNotReady("It " + "failed " * 40 + ".", "why " * 40, f"{'Look ' * 40}:\n{line}")
    narrow(monkeypatch)
    said = failed(Outcome(1, error), capsys)
    assert [row.strip() for row in said.splitlines() if "fab" in row] == [line]
    others = [row for row in said.splitlines() if "fab" not in row]
    assert max(map(len, others)) <= 80 and not any(row.endswith(" ") for row in others)


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    made = screen.Screen.__init__

    def init(self: screen.Screen, to_stderr: bool = False) -> None:
        made(self, to_stderr)
        self.console.width, self.is_terminal = 80, True

    monkeypatch.setattr(screen.Screen, "__init__", init)


WORDS = st.lists(st.text("abcdefg-:/", min_size=1, max_size=50), max_size=30)


@given(words=WORDS, gaps=st.sampled_from([" ", "  "]), first=st.integers(0, 60), others=st.integers(1, 60))
def test_a_text_is_broken_between_words_alone(words: list[str], gaps: str, first: int, others: int) -> None:
    text = gaps.join(words)
    breaks = screen._breaks(text, first, others)
    lines = [text[a:b] for a, b in zip([0, *breaks], [*breaks, len(text)], strict=True)]
    assert "".join(lines) == text
    assert [word for line in lines for word in line.split()] == words, "no word is broken"
    for number, line in enumerate(lines):
        room = others if number else first
        assert len(line.rstrip()) <= room or len(line.split()) == 1
    assert all(line.strip() for line in lines[1:]), "no line is empty"
    assert not text or lines[0].strip() or first < others, (
        "nor the first one, but where others have more room"
    )


# -- what is live --------------------------------------------------------------------------------------


def deployed(**changes: Any) -> list[HostResult]:
    found = [
        HostResult(
            name, release=NEW, previous=OLD, live=NEW, strategy="cache", transfer="stream", copy="reflink",
            files_uploaded=3, bytes_uploaded=2_500_000, phases={"connect": 1.0, "switch": number / 10},
        )
        for number, name in enumerate(NAMES)
    ]  # fmt: skip
    for name, value in changes.items():
        setattr(found[6], name, value)
    return found


def test_the_last_line_says_what_is_live_where_and_in_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_deployment(Outcome(0, None, deployed(phases={"upload": 3.1})))
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"✓ {NEW} is live on 20 hosts (3.1 s, slowest web7)"
    assert "3 files, 2.5 MB" in said and "reconnections" not in said and "live now" not in said


def test_the_table_has_the_columns_that_tell_something(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_deployment(Outcome(0, None, deployed(reconnects=2, release=f"{NEW}-2", copy="full")))
    said = capsys.readouterr().out
    assert re.search(r"host +live now +before +uploaded +deleted +reconnections +seconds", said)
    assert "web7: strategy: cache · transfer: stream · copy: full" in said
    assert f"✓ {NEW} is live on 19 hosts" in said and f"✓ {NEW}-2 is live on web7" in said
    console.show_deployment(Outcome(0, None, deployed(transfer="")[6:7]))  # a rollback uploads nothing
    assert "uploaded" not in capsys.readouterr().out


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (0, 1, 999, 3_141_632)] == ["0 bytes", "1 byte", "999 bytes", "3.1 MB"]


# -- lists: hosts of which the same is true ---------------------------------------------------------------


def test_equal_plans_are_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [HostResult(name, plan=Difference()) for name in NAMES]
    hosts[3].plan = None  # it failed
    lists.show_plan(Outcome(0, None, hosts))
    said = capsys.readouterr().out
    assert said.count("nothing was changed") == 1 and "19 hosts: web1, web2, web3, web5" in said


def test_equal_lists_of_releases_are_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    def listing(host: str, state: str) -> Listing:
        record = Record(NEW, state, "tree-0123456789", "2026-11-25T04:30:11+01:00", "me@here", 5)
        return Listing(host, NEW, [record])

    lists.show_releases([listing("web1", LIVE), listing("web2", GOOD), listing("web3", LIVE)])
    said = capsys.readouterr().out
    assert "web1, web3\n" in said and "\nweb2\n" in said and said.count(NEW) == 2
    assert "2026-11-25 03:30" in said, "the time is UTC's"


def test_what_is_no_time_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lists.show_releases([Listing("web1", NEW, [Record(NEW, LIVE, "", "yesterday", "me", 5)])])
    assert "yesterday" in capsys.readouterr().out


def test_locks(capsys: pytest.CaptureFixture[str]) -> None:
    owner = Owner("me", "here", 7, "2026-11-25T03:30:11+00:00", "fab deploy")
    held = [Holding(name, name, held=True, owner=owner) for name in ("web1", "web2")]
    unknown = Holding("web4", "me@web4:2222", held=True)
    typed = Typed(("fab", "-i", "my key"), ("--config", "other.yaml"))
    lists.show_locks([*held, Holding("web3"), unknown], typed)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("web1, web2: locked by me@here") and said[1] == "web3: not locked"
    assert said[2] == "web4: locked by an unknown owner"
    line = "fab -i 'my key' -H web1,web2,me@web4:2222 unlock --config other.yaml --force"
    assert said[-1].strip() == line


# -- where there is no terminal -----------------------------------------------------------------------------


def test_a_long_step_says_now_and_then_that_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI ends what is silent; what hooks print themselves is enough."""
    lines = live._Lines(screen.Screen())
    now = 1000.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    lines.started(StepStarted("web1", "before_switch"))
    lines.started(StepStarted("web2", "upload"))
    lines.progress(Progress("web2", "upload", 1, 2, 10_000_000, 40_000_000))
    for _ in range(60):
        now += 1
        if now <= 1030:
            lines.said("web1")
        lines.tick(now)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "web1" in line] == [
        "web1  … before_switch  40 s", "web1  … before_switch  50 s", "web1  … before_switch  60 s",
    ]  # fmt: skip
    assert sum("web2  … upload  25 %, 1 of 2 files, 10.0 MB of 40.0 MB" in line for line in said) == 6


def test_a_bar_says_how_far_a_step_is_or_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """A hook has no bytes, also where it follows an upload; a host that waits for others is not at work."""
    bars = live._Bars(screen.Screen())
    bars.started(StepStarted("web1", "upload"))
    bars.progress(Progress("web1", "upload", 1, 2, 10_000_000, 40_000_000))
    assert (
        bars._task("web1").fields["how"].startswith("10.0 MB of 40.0 MB")
        and bars._task("web1").percentage == 25
    )
    bars.finished(StepFinished("web1", "upload", 1.0))
    bars.started(StepStarted("web1", "before_switch"))
    bars.tick(time.monotonic())
    assert bars._task("web1").total is None and bars._task("web1").fields["how"] == "0 s"
    bars.finished(StepFinished("web1", "before_switch", 1.0))
    bars.tick(time.monotonic())
    assert bars._task("web1").description == "before_switch", "the next step comes at once"
    bars.tick(time.monotonic() + 5)
    assert bars._task("web1").description == "waits" and bars._task("web1").fields["how"] == ""


def test_the_same_note_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    with console.Live() as shown:
        for _ in range(6):
            shown.listen(Note("web1", "warn", "checks go over SSH,\nbecause SFTP can't be used"))
    assert capsys.readouterr().out.splitlines() == ["web1  ! checks go over SSH, because SFTP can't be used"]


def test_an_error_without_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    said = failed(Outcome(1, SwitchoverError("Interrupted.", "Ctrl-C", "Again.")), capsys)
    assert "nothing was changed; exit code 1" in said and "is live" not in said
