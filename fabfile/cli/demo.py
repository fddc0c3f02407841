"""fab demo"""

from __future__ import annotations

from typing import Any

from .task import task


@task(help={"keep": "Leave the folder with the demonstration's host in place."}, common=False)
def demo(c: Any, keep: bool = False) -> None:
    """Deploy a small site twice to a real SSH and SFTP server on loopback, and roll it back."""
    from ..demo import show

    show.run(keep=keep)
