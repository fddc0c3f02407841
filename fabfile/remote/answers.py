"""What a host says is input from a stranger: helpers to read it strictly.

Each format has one reader, beside what writes it. These readers raise ValueError for what they do not
understand; not_understood() makes of it the error that a person sees. No default stands in for an answer.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from ..errors import AnswerNotUnderstood

SHOWN = 200  # characters of an odd answer that an error shows
PATH_LIMIT = 4096  # bytes; Linux' PATH_MAX
DIGITS = 18  # of a number: what sh, JSON readers and file systems hold in 64 bits
_DECIMAL = re.compile(rf"0|[1-9][0-9]{{0,{DIGITS - 1}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def not_understood(what: str, said: str, hint: str = "") -> AnswerNotUnderstood:
    """The error for an answer that no reader understands. what: "The lock's answer", say."""
    shown = said if len(said) <= SHOWN else f"{said[:SHOWN]}… ({len(said)} characters)"
    return AnswerNotUnderstood(
        f"{what} was not understood.",
        f"the host said: {shown!r}",
        hint or "A start-up file of the account may print or change something.",
    )


def decimal(text: str) -> int:
    """A number >= 0 as programs print it: no sign, no leading zero, DIGITS at most. Raises ValueError."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def is_sha256(text: str) -> bool:
    """Whether it is a sha256 in hex."""
    return _SHA256.fullmatch(text) is not None


def sha256(text: str) -> str:
    """A sha256 in hex. Raises ValueError."""
    if not is_sha256(text):
        raise ValueError(f"not a sha256: {text[:80]!r}")
    return text


def inside(path: str) -> str:
    """A relative path that stays inside, in its only spelling: no empty part, no `.`, no `..`, no NUL.

    Raises ValueError.
    """
    if not path or len(path) > PATH_LIMIT or "\0" in path:
        raise ValueError(f"not a path: {path[:80]!r}")
    padded = f"/{path}/"
    if "//" in padded or "/./" in padded or "/../" in padded:
        raise ValueError(f"a path that may lead outside: {path[:80]!r}")
    return path


def plain(value: object, limit: int) -> str:
    """Text of one line without control characters, at most `limit` characters. Raises ValueError."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise ValueError(f"not plain text: {str(value)[:80]!r}")
    return value


def json_object(text: str, limit: int) -> dict[str, Any]:
    """A JSON object of at most `limit` characters, each key once, no NaN. Raises ValueError."""
    if len(text) > limit:
        raise ValueError("too long")
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key is there twice")
    return data


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
