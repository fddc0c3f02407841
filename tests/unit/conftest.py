"""The shells that scripts are tried under."""

from __future__ import annotations

import shutil
import zlib

import pytest

from tests.support import local
from tests.support.skipping import unavailable

ALWAYS = ["dash", "bash", "busybox"]
BY_TURNS = [name for name in local.SHELLS if name not in ALWAYS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses `each_shell` is run under the three that most hosts have, and under another."""
    if "each_shell" in metafunc.fixturenames:
        turn = zlib.crc32(metafunc.function.__name__.encode()) % len(BY_TURNS)
        metafunc.parametrize("each_shell", [*ALWAYS, BY_TURNS[turn]], indirect=True)


@pytest.fixture
def each_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Scripts run under this one; its name."""
    name: str = request.param
    if shutil.which(name) is None:
        unavailable(f"this machine has no {name}")
    monkeypatch.setattr(local, "shell", local.SHELLS[name])
    return name
