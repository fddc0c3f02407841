"""The form of exec requests, and what comes out of it under each sh."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.remote.request import Request
from fabfile.remote.shell import quote

SHELLS = [["/bin/sh"], ["bash"], ["busybox", "sh"], *([[s] for s in ("mksh", "ksh93") if shutil.which(s)])]
LOGINS = [["sh"], *([[s] for s in ("bash", "fish", "tcsh", "bsd-csh", "zsh", "yash") if shutil.which(s)])]


def answer(request: Request, login: list[str], shell: list[str], **environment: str) -> bytes:
    """What the script printed, with `shell` in the place of /bin/sh."""
    words = " ".join(shutil.which(shell[0]) or shell[0] for _ in [0]) + "".join(f" {w}" for w in shell[1:])
    text = request.text.replace(b"/bin/sh -c", f"{words} -c".encode(), 1)
    env = {"PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run([*login, "-c", text], input=b"", capture_output=True, env=env, timeout=30)
    _, found, out = done.stdout.partition(request.mark)
    assert found, done
    return out


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=3000).map(lambda data: data.replace(b"\0", b"")))
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_any_bytes_arrive(shell: list[str], data: bytes) -> None:
    request = Request.of(f"printf %s {quote(data.decode('utf-8', 'surrogateescape'))}")
    assert not set(request.text) & set(b"\n!\\") and request.text.isascii()
    assert request.mark not in request.text and request.err_mark not in request.text
    assert answer(request, ["sh"], shell) == data


@settings(max_examples=6, deadline=None)
@given(st.binary(max_size=3000).map(lambda data: data.replace(b"\0", b"")))
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_any_bytes_arrive_without_tr(shell: list[str], data: bytes) -> None:
    """toybox has none."""
    request = Request.of(f"printf %s {quote(data.decode('utf-8', 'surrogateescape'))}")
    asked = b"if command -v tr >/dev/null;"
    assert asked in request.text
    without = replace(request, text=request.text.replace(asked, b"if false;"))
    assert answer(without, ["sh"], shell) == data


@pytest.mark.parametrize("login", LOGINS, ids=lambda words: words[0])
def test_under_every_login_shell(login: list[str]) -> None:
    data = bytes(range(1, 256))
    request = Request.of(f"printf %s {quote(data.decode('utf-8', 'surrogateescape'))}")
    assert answer(request, login, ["/bin/sh"]) == data


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_the_environment_is_known(shell: list[str]) -> None:
    """What could change our commands is gone; what names the account stays."""
    hostile = {
        "CDPATH": "/tmp",
        "POSIXLY_CORRECT": "1",
        "TAR_OPTIONS": "--bogus",
        "A": "b\n* c=d",
        "HOME": "/x",
    }
    script = 'umask -S; pwd; echo "${CDPATH-}${POSIXLY_CORRECT-}${TAR_OPTIONS-}${A-}$HOME"'
    assert answer(Request.of(script), ["sh"], shell, **hostile).split() == [b"u=rwx,g=rx,o=rx", b"/", b"/x"]
