"""How the rsync program is run here: it ends with the command, and what it says is bounded."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from fabfile.build.transfers import rsync
from fabfile.errors import CommandFailed, CommandTimedOut, LinkLost, Stopped, SwitchoverError


def runner(timeout: float = 60, *, interrupted: bool = False) -> rsync._LocalRunner:
    def stop_if_interrupted() -> None:
        if interrupted:
            raise Stopped("Interrupted.")

    connection = SimpleNamespace(user="deploy", port=22, stop_if_interrupted=stop_if_interrupted)
    host: Any = SimpleNamespace(name="web1", shell=SimpleNamespace(timeout=timeout), connection=connection)
    return rsync._LocalRunner(host)


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (23, "No space left on device", CommandFailed),
        (255, "gone", LinkLost),
        (255, "Permission denied", CommandFailed),
    ],
)
def test_what_rsync_says_tells_what_is_wrong(status: int, said: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        runner().local(f"echo {said} >&2; exit {status}")
    assert isinstance(caught.value, SwitchoverError) and caught.value.why == f"exit status {status}: {said}"


def test_an_interruption_ends_it() -> None:
    with pytest.raises(Stopped):
        runner(interrupted=True).local("sleep 60")


def test_one_that_does_not_end() -> None:
    with pytest.raises(CommandTimedOut):
        runner(0.1).local("sleep 60")


def test_what_it_leaves_behind_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master of ssh's ControlPersist goes on, with stderr open."""
    monkeypatch.setattr(rsync, "GRACE", 0.1)
    with pytest.raises(CommandFailed):
        runner().local("setsid sleep 3 & exit 1")


def test_what_it_says_does_not_fill_the_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CommandFailed) as caught:
            runner().local("head -c 50000000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000 and caught.value.output.endswith("end") and len(caught.value.output) <= rsync.SAID
