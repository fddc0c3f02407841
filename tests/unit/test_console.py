"""What a person sees: every host's own error, and what comes from a host as it is, never as markup."""

from __future__ import annotations

from typing import Any

import pytest

from fabfile.errors import HookFailed, HostNotReady, Stopped
from fabfile.events import Note, Output, Progress, StepFailed, StepFinished, StepStarted
from fabfile.fleet import Outcome
from fabfile.report import console
from fabfile.results import HostResult

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


@pytest.mark.promise("markup")
@pytest.mark.parametrize("event", EVENTS[1:6], ids=lambda event: type(event).__name__)
def test_no_markup_of_a_host_is_interpreted(event: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with console.Live() as live:
        live.listen(StepStarted("web1", "hook"))
        live.listen(event)
    assert MARKUP in capsys.readouterr().out


def test_every_hosts_own_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    first = HostNotReady("No room on web1.", "1 byte is free", "Free some.")
    second = HookFailed("The hook failed on web2.", "exit status 7", "Run it by hand.")
    hosts = [
        HostResult("web1", ok=False, error=first),
        HostResult("web2", ok=False, error=second),
        HostResult("web3", ok=False, error=Stopped("web3 was stopped.", "", "")),
    ]
    console.show_error(Outcome(1, first, hosts))
    said = capsys.readouterr().err
    for words in ("No room on web1.", "1 byte is free", "The hook failed on web2.", "exit status 7"):
        assert words in said
    assert said.count("No room on web1.") == 1, "the one error that stands for all is not told twice"
