"""What a single value may be.

Each check returns the value to keep or raises ValueError; its text completes "allowed: …".
The types that the model uses stand at the end.
"""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
import urllib.parse
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NAME = r"[A-Za-z0-9._-]+"
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/:]+:|-")  # a URL, user@host:path, or an option


def _text(value: object, allowed: str) -> str:
    """The value as a string, if it is one and not blank."""
    if isinstance(value, bool | int | float | date):
        raise ValueError(f"{allowed}, in quotes")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(allowed)
    return value


def _line(value: object, allowed: str) -> str:
    """Text without control characters (a newline, a NUL)."""
    text = _text(value, allowed)
    if CONTROL.search(text):
        raise ValueError(f"{allowed}, without control characters")
    return text


def _checked(check: Callable[[object], object], pattern: str) -> BeforeValidator:
    """A check of text, and a pattern for editors (JavaScript's, too), which is never stricter."""
    return BeforeValidator(check, json_schema_input_type=Annotated[str, Field(pattern=pattern)])


def _matching(pattern: str, kind: str, rule: str) -> BeforeValidator:
    """One line that matches the pattern, which `rule` describes."""

    def check(value: object) -> str:
        text = _line(value, kind)
        if not re.fullmatch(pattern, text):
            raise ValueError(rule)
        return text

    return _checked(check, f"^(?:{pattern})$")


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number from low to high; no text, no truth value."""
    allowed = f"a whole number from {low} to {high}"

    def check(value: object) -> int:
        if isinstance(value, str) and value.strip().isdigit():
            raise ValueError(f"{allowed}, without quotes")
        if type(value) is not int or not low <= value <= high:
            raise ValueError(allowed)
        return value

    return BeforeValidator(check, json_schema_input_type=Annotated[int, Field(ge=low, le=high)])


def seconds(low: float, high: float) -> BeforeValidator:
    """A number of seconds from low to high; fractions are fine."""
    allowed = f"a number of seconds from {low:g} to {high:g}"

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(allowed)
        return value

    return BeforeValidator(check, json_schema_input_type=Annotated[float, Field(ge=low, le=high)])


def _command(value: object) -> str:
    """A shell command; several lines are fine."""
    text = _text(value, "a shell command that is not empty")
    if CONTROL.search(re.sub(r"[\n\t]", "", text)):
        raise ValueError("a shell command without control characters but newline and tab")
    return text


def _absolute(value: object) -> str:
    """A normalised absolute path on the host."""
    allowed = "an absolute path on the host, such as /srv/shop"
    text = _line(value, allowed)
    if not text.startswith("/"):
        raise ValueError(allowed)
    normal = "/" + posixpath.normpath(text).lstrip("/")
    if text != normal:
        raise ValueError(f"a path without doubled or trailing slashes and without . or .., such as {normal}")
    return text


def _deploy_to(value: object) -> str:
    """A normalised absolute path on the host, below the root."""
    text = _absolute(value)
    if text == "/":
        raise ValueError("a folder below /, such as /srv/shop")
    return text


def relative(value: object) -> str:
    """A normalised relative path that stays inside."""
    text = _line(value, "a relative path, such as public/uploads")
    if text.startswith("/"):
        raise ValueError("a relative path, such as " + (text.strip("/") or "public/uploads"))
    normal = posixpath.normpath(text)
    if ".." in text.split("/") or normal == ".":
        raise ValueError("a relative path that stays inside, without ..")
    if text != normal:
        raise ValueError(f"a path without doubled or trailing slashes and without ., such as {normal}")
    return text


def _shared(value: object) -> str:
    """A path of a release that is linked to shared/."""
    text = relative(value)
    if text.split("/")[0] == "REVISION":
        raise ValueError("any path but REVISION, which Switchover writes in each release")
    return text


def _pattern(value: object) -> str:
    """One gitignore pattern that can match something."""
    import pathspec  # here: slow to import

    text = _line(value, "a gitignore pattern, such as node_modules/")
    try:
        patterns = list(pathspec.GitIgnoreSpec.from_lines([text]).patterns)
    except ValueError:
        raise ValueError("a valid gitignore pattern, such as node_modules/") from None
    if not patterns or any(pattern.include is None for pattern in patterns):
        raise ValueError("a gitignore pattern that matches something, such as node_modules/")
    return text


def _local_path(value: object, info: ValidationInfo) -> Path:
    """A path on this machine, made absolute from the context's base_dir; ~ is the home folder."""
    text = os.path.expanduser(_line(os.fspath(value) if isinstance(value, Path) else value, "a path"))  # noqa: PTH111
    if text.startswith("~"):
        raise ValueError("a path; there is no such user here")
    base_dir: Path = (info.context or {}).get("base_dir") or Path.cwd()
    return Path(os.path.abspath(base_dir / text))  # noqa: PTH100 - and not resolve(): links stay


def _git(value: object, info: ValidationInfo) -> str:
    """A repository: a URL or user@host:path as it is, anything else as a path on this machine."""
    text = _line(value, "a repository's folder or address")
    if text.startswith("-") or "::" in text:
        raise ValueError("a folder, a URL or user@host:path")  # not an option, not a remote helper
    return str(_local_path(text, info)) if is_local_repository(text) else text


def is_local_repository(address: str) -> bool:
    """Git's own rule: no URL, and no colon before the first slash."""
    return not _REMOTE.match(address)


def _url(value: object) -> str:
    """An http or https address."""
    allowed = "an http:// or https:// address, such as http://127.0.0.1/healthz"
    text = _line(value, allowed)
    try:
        parts = urllib.parse.urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", text):
        raise ValueError(allowed)
    return text


def _host_name(value: object) -> str:
    """A host name, an ssh_config alias, or an IP address; brackets around IPv6 are taken off."""
    allowed = "a host name or an address"
    text = _line(value, allowed)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            raise ValueError(f"{allowed}; user and port have keys of their own") from None
    elif not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", text):
        raise ValueError(allowed)
    return bare


_CHARACTERS = "letters, digits and . _ -"
_COMMIT = "a branch, tag or commit"
_LOGIN = "a login name"

Absolute = Annotated[str, _checked(_absolute, "^/")]
Command = Annotated[str, _checked(_command, r"\S")]
DeployTo = Annotated[str, _checked(_deploy_to, "^/[^/]")]
Git = Annotated[str, BeforeValidator(_git)]
HostName = Annotated[str, BeforeValidator(_host_name)]
LocalPath = Annotated[Path, BeforeValidator(_local_path)]
Name = Annotated[str, _matching(rf"(?!\.\.?$){NAME}", _CHARACTERS, _CHARACTERS)]
Pattern = Annotated[str, BeforeValidator(_pattern)]
Ref = Annotated[str, _matching(r"[^-\s]\S*", _COMMIT, f"{_COMMIT}, without spaces and not starting with -")]
Relative = Annotated[str, _checked(relative, "^[^/]")]
SharedPath = Annotated[str, _checked(_shared, "^[^/]")]
Url = Annotated[str, _checked(_url, "^[Hh][Tt][Tt][Pp][Ss]?://")]
User = Annotated[
    str, _matching(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*\$?", _LOGIN, f"{_LOGIN} of {_CHARACTERS} + @")
]
