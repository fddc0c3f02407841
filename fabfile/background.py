"""Work that goes on while something else is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def background(work: Callable[[], T]) -> Future[T]:
    """Do `work` in a thread of its own; what it returns or raises is the Future's."""
    done: Future[T] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  (handed to whoever asks for the result)
            done.set_exception(error)

    threading.Thread(target=do, name="background", daemon=True).start()
    return done
