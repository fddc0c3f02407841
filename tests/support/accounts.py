"""Login accounts that live as long as a test (needs root)."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import subprocess
from collections.abc import Iterator

from tests.support.sshd import ACCOUNT_LOCK

LIMIT = 30.0  # seconds for a command
_numbers = itertools.count(1)


@contextlib.contextmanager
def account(shell: str = "/bin/bash", *, home: bool = True) -> Iterator[str]:
    """An account of its own (needs root), removed at the end with all that it runs."""
    name = f"so-{os.getpid()}-{next(_numbers)}"
    _users("useradd", "-m" if home else "-M", "-s", shell, name)
    _users("usermod", "-p", "*", name)
    try:
        yield name
    finally:
        subprocess.run(["pkill", "-KILL", "-u", name], check=False, timeout=LIMIT)
        _users("userdel", "-rf", name)


def _users(*words: str) -> None:
    with ACCOUNT_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0 or words[0] == "userdel", done.stderr
