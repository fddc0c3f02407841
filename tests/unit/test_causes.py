"""Why a command on the host failed, and in which of several that travel together."""

from __future__ import annotations

import errno
import os

import pytest

from fabfile.errors import CommandFailed, classify
from fabfile.remote.shell import Batch, Result, Script, failed

KNOWN = {
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "quota",
    errno.EROFS: "read-only",
    errno.EACCES: "denied",
    errno.EPERM: "not-permitted",
}


@pytest.mark.parametrize("number", KNOWN)
def test_a_known_reason_is_a_field(number: int) -> None:
    error = failed("Copying", Result(1, b"", f"cp: x: {os.strerror(number)}\n".encode()))
    assert (error.status, error.reason) == (1, KNOWN[number])
    assert error.hint, "there is something to try"


def test_other_reasons_are_none() -> None:
    assert classify("cp: x: No such file or directory") == ""
    assert CommandFailed("It failed.").reason == ""


def test_a_part_that_fails_has_not_ended_well() -> None:
    """The step that it belongs to is still the one at work when the error is raised."""
    ended: list[int] = []
    batch = Batch(
        [
            Script("One", ":"),
            Script("Two", ":", needed=False),
            Script("Three", ":", id="three"),
            Script("Four", ":"),
        ],
        lambda part, said: ended.append(part),
    )
    batch.feed(f"{batch.mark} 0;{batch.mark} 3;x{batch.mark} 4;".encode())
    assert ended == [0, 1]
    with pytest.raises(CommandFailed) as caught:
        batch.read(Result(4, f"{batch.mark} 0;{batch.mark} 3;x{batch.mark} 4;".encode(), b"no"))
    assert caught.value.script == "three"
