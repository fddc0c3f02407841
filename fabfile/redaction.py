"""The one place that every text for a terminal, a document or a file passes.

Secrets are taken out (`sensitive` knows their forms, `learn` adds those of the configuration), and what a
terminal would obey or a reader would not see becomes visible: what hosts, hooks and other people say is text,
and nothing else.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from . import sensitive
from .sensitive import REMOVED

__all__ = [
    "REMOVED",
    "KeyBlocks",
    "anonymize",
    "clean",
    "document",
    "learn",
    "learn_url",
    "neutralise",
    "redact",
]

LONGEST_LINE = 2_000  # characters
LONGEST_TEXT = 20_000

# Fields of documents in which a text may have several lines.
SEVERAL_LINES = frozenset({"why", "try", "change", "output"})


def clean(text: object, *, lines: bool = False, colours: bool = False) -> str:
    """`text` as people may see it: without secrets, and neutral.

    lines: it may have several lines. colours: SGR colours stay, and end with the line.
    """
    said = _bounded(str(text))
    plain = _SGR.sub("", said)
    shown = redact(plain)
    # A colour in the middle of a secret must not hide it: such a text loses its colours.
    return neutralise(said if colours and shown == plain else shown, lines=lines, colours=colours)


def document(value: object, names: Mapping[str, str] | None = None, key: str = "") -> Any:
    """A JSON document of which each text has passed `clean`; with `names`, `anonymize` too."""
    if isinstance(value, Mapping):
        return {str(document(str(k), names)): document(item, names, str(k)) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [document(item, names, key) for item in value]
    if isinstance(value, set | frozenset):
        return [document(item, names, key) for item in sorted(value, key=str)]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)  # JSON knows no NaN
    if sensitive.names_secret(key) and value:
        return REMOVED
    shown = clean(value, lines=key in SEVERAL_LINES)
    return anonymize(shown, names) if names else shown


# -- secrets -------------------------------------------------------------------------------------------

_learned: dict[str, None] = {}
_known: re.Pattern[str] | None = None
SHORTEST = 4  # characters of a secret that is looked for by itself


def learn(*secrets: str) -> None:
    """Remove these wherever they appear from now on: literally, URL-encoded, escaped or in base64."""
    global _known
    for secret in secrets:
        if len(secret) >= SHORTEST:
            forms = {
                secret,
                urllib.parse.quote(secret),
                urllib.parse.quote(secret, safe=""),
                urllib.parse.quote_plus(secret),
                urllib.parse.unquote(secret),
                json.dumps(secret)[1:-1],
                secret.replace("'", "'\"'\"'"),
                secret.replace("'", "'\\''"),
                base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode(),
            }
            _learned.update(dict.fromkeys(form for form in forms if len(form) >= SHORTEST))
    if _learned:
        longest_first = sorted(_learned, key=len, reverse=True)
        _known = re.compile("|".join(_literally(form) for form in longest_first))


def _literally(secret: str) -> str:
    """A short one only as a whole word: it may be part of many."""
    return re.escape(secret) if len(secret) >= 8 else rf"(?<!\w){re.escape(secret)}(?!\w)"


def learn_url(url: str) -> None:
    """Learn what is secret in a URL of the configuration: who logs in, and what its query says."""
    try:
        parts = urllib.parse.urlsplit(url)
        query = urllib.parse.parse_qsl(parts.query)
    except ValueError:
        return
    userinfo, at, _ = parts.netloc.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and (colon or parts.scheme in ("http", "https")):
        learn(userinfo, urllib.parse.unquote(password) if colon else urllib.parse.unquote(user))
    if query:
        learn(
            parts.query, *(value for name, value in query if len(value) >= 8 or sensitive.names_secret(name))
        )


def redact(text: str) -> str:
    """The text without secrets."""
    if _known is not None:
        text = _known.sub(REMOVED, text)
    return sensitive.remove(text)


class KeyBlocks:
    """Takes the lines of a private key out of what comes line by line."""

    _BEGIN = re.compile(r"-----BEGIN [^-\n]{0,40}PRIVATE KEY[^-\n]{0,40}-----(?!.*-----END )")
    _END = re.compile(r"-----END [^-\n]{0,80}-----")
    _BODY = re.compile(r"\S{0,80}|[\w-]+: .*|.*[\w+/=]{30,}.*")

    def __init__(self) -> None:
        self.inside = False

    def line(self, line: str) -> str | None:
        """The line as it may be shown; None where it is all secret."""
        if self.inside:
            ended = bool(self._END.search(line))
            if ended or self._BODY.fullmatch(line.strip()):
                self.inside = not ended
                return None
            self.inside = False
        self.inside = bool(self._BEGIN.search(line))
        return line


def anonymize(text: str, names: Mapping[str, str]) -> str:
    """The text with each of these names, as a whole word, replaced; home folders and addresses too.

    names: what is looked for (in any case) -> what stands in its place.
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        edge = r"[\w-]" if name[-1].isalnum() else r"\w"
        literally = names[name].replace("\\", r"\\")
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?!{edge})", literally, text, flags=re.I)
    text = _HOME.sub(r"\1/user", text)
    return _ADDRESS.sub(lambda found: found.group() if _is_public_fact(found.group()) else "address", text)


_HOME = re.compile(r"(/(?:home|Users|var/home|export/home|usr/home))/[^/\s'\",;:)]+")
_ADDRESS = re.compile(
    r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}|(?=[0-9a-f:]*:[0-9a-f:]*:)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:]|\.\d)",
    re.I,
)


def _is_public_fact(address: str) -> bool:
    """Loopback and "any" tell nothing; a time of day is no address."""
    return (
        address.startswith(("127.", "0.0.0.0"))
        or address.strip(":") in ("", "1")
        or bool(re.fullmatch(r"\d\d?:\d\d:\d\d", address))
    )


# -- what a terminal would obey ------------------------------------------------------------------------

_SGR = re.compile(r"\x1b\[(?:\d{1,3}(?:[;:]\d{0,3}){0,15})?m")
# Letters and marks without a width that Unicode does not count among the format characters.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800")
_VISIBLE = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_CONCEALS = frozenset({"8", "08", "008"})


def neutralise(text: str, *, lines: bool = False, colours: bool = False) -> str:
    """The text with all that is not text written out: `\\x1b`, `\\u202e`. Bytes that were no UTF-8 too."""
    if lines:
        text = text.replace("\r\n", "\n").expandtabs(4)
        return "\n".join(_line(line, colours) for line in text.split("\n"))
    return _line(text.expandtabs(8) if colours else text, colours)


def _line(line: str, colours: bool) -> str:
    if len(line) > LONGEST_LINE:
        line = f"{line[:LONGEST_LINE]}… ({len(line) - LONGEST_LINE} characters more)"
    if line.isprintable() and _UNSEEN.isdisjoint(line):
        return line
    if not colours:
        return "".join(map(_visible, _SGR.sub("", line)))
    pieces, at, coloured = [], 0, False
    for found in _SGR.finditer(line):
        if _CONCEALS.isdisjoint(re.split("[;:]", found.group()[2:-1])):
            pieces += [*map(_visible, line[at : found.start()]), found.group()]
            at, coloured = found.end(), found.group() not in ("\x1b[0m", "\x1b[m")
    pieces += [*map(_visible, line[at:]), "\x1b[0m" if coloured else ""]
    return "".join(pieces)


def _visible(char: str) -> str:
    if char.isprintable() and char not in _UNSEEN:
        return char
    code, kind = ord(char), unicodedata.category(char)
    if kind in ("Zs", "Co", "Cn") and code & 0xFFFE != 0xFFFE and char not in _UNSEEN:
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        code -= 0xDC00
    if char in _VISIBLE:
        return _VISIBLE[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _bounded(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\n… ({len(text) - LONGEST_TEXT} characters more)"


def repeated(lines: Iterable[str]) -> list[str]:
    """Lines, of which equal ones that follow each other stand once, with how often."""
    found: list[list[Any]] = []
    for line in lines:
        if found and found[-1][0] == line:
            found[-1][1] += 1
        else:
            found.append([line, 1])
    return [line if times == 1 or not line else f"{line} ({times} times)" for line, times in found]
