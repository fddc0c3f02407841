"""Switchover: zero-downtime deployments over plain SSH and SFTP, as Fabric tasks.

Scripts call the functions below, which print nothing and return what became of every host. A fabfile takes
the tasks: `from switchover import ns as switchover`. Each name is imported when it is first used.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cli.tasks import ns
    from .diagnosis import diagnose
    from .fleet import Outcome, Target, cache_sync, deploy, releases, rollback, unlock
    from .settings import load

__all__ = [
    "Outcome",
    "Target",
    "cache_sync",
    "deploy",
    "diagnose",
    "load",
    "ns",
    "releases",
    "rollback",
    "unlock",
]

# `fab` puts the folder of the tasks first on the path, where any library's `import build` would find ours.
sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]

_ELSEWHERE = {"ns": ".cli.tasks", "diagnose": ".diagnosis", "load": ".settings"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_ELSEWHERE.get(name, ".fleet"), __name__), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
