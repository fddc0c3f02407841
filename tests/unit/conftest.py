"""The shells that scripts are tried under."""

from __future__ import annotations

import shutil

import pytest

from tests.support import local
from tests.support.skipping import unavailable


@pytest.fixture(params=local.SHELLS)
def shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Scripts run under this one; its name. A test that uses it is run once for each."""
    name: str = request.param
    if shutil.which(name) is None:
        unavailable(f"this machine has no {name}")
    monkeypatch.setattr(local, "shell", local.SHELLS[name])
    return name
