"""What the tests of faults share: a small site, the way to its host, and a host with slow tools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.helpers import PATIENT
from tests.support.project import Project
from tests.support.sshd import Sshd


@pytest.fixture
def project(project: Project) -> Project:
    """A small site, and an empty directory on the host to deploy it to."""
    project.configure(ssh=PATIENT)
    return project


@pytest.fixture(scope="session")
def gated(sshd_installed: None) -> Iterator[Sshd]:
    """A server whose cp waits at a cache as long as a file .gate beside that says how it is used: `place`, to
    put an upload in its place there, or `copy`.
    """
    with Sshd(programs={"cp": GATED_CP}) as server:
        yield server


GATED_CP = """
use=copy root=
for word in "$@" "$PWD/"; do
  case $word in
    -lP) use=place ;;
    */cache|*/cache/*) [ $use = place ] || root=${word%%/cache*} ;;
    */.switchover/incoming/*) [ $use = copy ] || root=${word%%/.switchover/*} ;;
  esac
done
if [ -n "$root" ]; then
  [ "$(cat "$root/.gate" 2>/dev/null)" != $use ] || : > "$root/.reached"
  n=0; while [ "$(cat "$root/.gate" 2>/dev/null)" = $use ] && [ $n -lt 1200 ]; do
    sleep 0.05; n=$((n + 1))
  done
fi
"""
