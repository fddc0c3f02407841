"""What code and the JSON documents know of an error, beside its sentences."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fabfile import errors, fleet, redaction
from fabfile.aftermath import differ
from fabfile.errors import CommandFailed, HookFailed, LocalHookFailed, LockLost, SwitchoverError
from fabfile.local.build import build
from fabfile.on_host.lock import NOT_OURS
from fabfile.parallel import Fleet
from fabfile.remote.failures import CAUSES
from fabfile.remote.login import _PROBLEMS
from fabfile.remote.shell import LAST_LINES, LINE_SHOWN, Result, failed
from fabfile.report import documents
from fabfile.results import HostResult, Outcome
from fabfile.session import hooks
from fabfile.session.lost_lock import LostLock
from fabfile.session.steps import Steps
from fabfile.typed import Typed
from tests.support.fab import REPOSITORY

HOST: Any = SimpleNamespace(
    name="web1", emit=lambda event: None, identity=None, losses=[],
    connection=SimpleNamespace(address="web1", reconnects=0, transport=None),
)  # fmt: skip
BROKEN = LockLost("The lock was broken.")


def steps(explain: Any = lambda error: error) -> Steps:
    return Steps(HOST, HostResult("web1"), threading.Event(), explain)


def written(error: SwitchoverError) -> dict[str, Any]:
    """The error as the document of a command has it."""
    document = redaction.document(documents.deployment(Outcome(1, error)))
    assert isinstance(document["error"], dict)
    return document["error"]


def test_a_command_that_fails_says_how() -> None:
    said = b"cp: a: No space left on device\n" * 3
    found = written(failed("Copying", Result(1, b"", said)))
    assert (found["reason"], found["status"]) == ("no-space", 1)
    assert found["output"] == "cp: a: No space left on device (3 times)"


def test_nothing_is_made_up() -> None:
    found = written(SwitchoverError("It failed."))
    assert [found[key] for key in ("step", "reason", "status", "output", "commands")] == [None] * 4 + [[]]


def test_output_is_bounded_and_without_secrets() -> None:
    lines = [f"{number} {'x' * 9 * LINE_SHOWN}" for number in range(99)]
    said = "\n".join([*lines, "DB_PASSWORD=hunter2", "\x1b[2Jcleared"])
    output = written(failed("Copying", Result(1, said.encode(), b"")))["output"]
    assert len(output.splitlines()) == LAST_LINES and len(output) < LAST_LINES * (LINE_SHOWN + 100)
    assert "hunter2" not in output and "\x1b" not in output and output.endswith("cleared")


@pytest.mark.parametrize("explained", [None, BROKEN])
def test_the_step_is_the_one_that_failed(explained: SwitchoverError | None) -> None:
    """Not one around it, and also where the error is really another."""
    at = steps(lambda error: explained or error)
    with pytest.raises(SwitchoverError) as caught, at.step("resume"), at.step("copy"):
        raise CommandFailed("It failed.")
    assert written(caught.value)["step"] == "copy"


def test_an_error_that_is_explained_after_its_step_has_it_too() -> None:
    with pytest.raises(SwitchoverError) as caught, steps().step("copy"):
        raise CommandFailed("It failed.")
    shell = SimpleNamespace(run=lambda *_, **__: Result(NOT_OURS, b"", b""))
    lock: Any = SimpleNamespace(held=True, guard="")
    host: Any = SimpleNamespace(name="web1", shell=shell)
    lost = LostLock(host, lock).explain(caught.value)
    assert isinstance(lost, LockLost) and lost.step == "copy"


def test_a_hook_fails_as_its_command_did() -> None:
    def run(name: str, *_: object, **__: object) -> None:
        if name == "before_switch-2":
            raise failed("It", Result(7, b"one\ntwo: Disk quota exceeded\n", b""))

    jobs: Any = SimpleNamespace(run=run)
    with pytest.raises(HookFailed) as caught:
        hooks.run(jobs, "before_switch", ["true", "false"], "/", {}, "", lambda line: None)
    found = written(caught.value)
    assert (found["status"], found["reason"]) == (7, "quota")
    assert found["output"] == "one\ntwo: Disk quota exceeded" and caught.value.number == 2


def test_a_local_build_fails_as_its_command_did(tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(
        hooks=SimpleNamespace(local_build=["echo one; exit 3"]),
        base_dir=tmp_path, ssh=SimpleNamespace(command_timeout=30),
    )  # fmt: skip
    with pytest.raises(LocalHookFailed) as caught:
        fleet._build_locally(settings, lambda event: None)
    found = written(caught.value)
    assert (found["step"], found["status"], found["output"]) == ("local_build", 3, "one")


def test_a_local_build_that_does_not_end(tmp_path: Path) -> None:
    with pytest.raises(LocalHookFailed) as caught:
        build(["echo one; sleep 60"], tmp_path, 0.5, lambda line: None)
    assert (caught.value.reason, caught.value.status, caught.value.output) == ("timed-out", None, "one")


def test_what_to_type_is_there_by_itself() -> None:
    """For each host, each error, and once."""
    access: Any = SimpleNamespace(host=HOST, steps=steps(), lease=SimpleNamespace(stop=lambda: None))
    access.steps.result.fail(errors.Locked("It is locked.", hint="Wait.", task=("unlock", "--force")))
    outcome = Fleet([access], threading.Event(), Typed(flags=("--env", "live"))).outcome()
    assert outcome.error
    found = written(outcome.error)
    assert found["commands"] == ["fab -H web1 unlock --env live --force"]
    assert found["try"] == "Wait.\n" + found["commands"][0] and found["reason"] == "locked"


def test_hosts_that_differ_have_the_step_of_the_first_error() -> None:
    first = SwitchoverError("It failed.")
    first.step = "health"
    assert differ(Fleet([], threading.Event()), [], [], [], first).step == "health"


def test_the_page_lists_every_reason() -> None:
    page = (REPOSITORY / "docs/json.md").read_text()
    table = page.partition("<!-- reasons: begin -->")[2].partition("<!-- reasons: end -->")[0]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and "reason" in vars(kind)]
    known = {
        *errors._SAID.values(),
        *(kind.reason for kind in kinds if issubclass(kind, SwitchoverError)),
        *(f"host-key-{problem}" for problem in ("unknown", "changed", "revoked", "unreadable")),
        *(f"key-file-{problem}" for problem in _PROBLEMS),
        *(cause.replace(" ", "-") for cause in CAUSES if cause != "host key"),
    }
    assert set(re.findall(r"`([\w-]+)`", table)) == known - {""}
