"""Takes secrets, and on request names, out of what leaves this machine in a report."""

from __future__ import annotations

import re
from collections.abc import Iterable

REMOVED = "[removed]"
_WORDS = r"pass(?:word|wd|phrase)?|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credentials?"

# What a secret looks like, and what stands in its place.
_SECRETS = (
    (re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(-----END [^-]*PRIVATE KEY-----|$)", re.S), REMOVED),
    (re.compile(r"\b((?:ssh|ecdsa|sk)-[\w@.-]+) AAAA[\w+/=]+"), rf"\1 {REMOVED}"),
    (re.compile(r"(\w+://[^\s/:@]*):[^\s/@]+@"), rf"\1:{REMOVED}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {REMOVED}"),
    (
        re.compile(rf"(?i)(\b[\w-]*(?:{_WORDS})[\w-]*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)"),
        rf"\1{REMOVED}",
    ),
)


def redact(text: str) -> str:
    """The text without secrets: keys, passwords in URLs, values of password=, token: and the like."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def anonymize(text: str, names: Iterable[str]) -> str:
    """The text with each of these names, as a whole word, replaced by `user`; home directories too."""
    for name in sorted({name for name in names if name}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "user", text)
    return re.sub(r"/home/[^/\s'\"]+", "/home/user", text)
