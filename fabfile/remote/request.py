"""How a script travels to a host, whatever the login shell and the server are.

An exec request is given to the account's login shell, which may be a csh or a fish, and servers limit its
length. So each one has the same form, `exec /bin/sh -c '…' sh '…' '…'`, of printable ASCII without `!`,
backslash or a quote inside quotes; the script itself is encoded in the words behind. What it prints is
framed: it begins behind a mark that the request holds only in two halves, so no echo of the request, no
start-up file and no `set -x` can be taken for an answer.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from .script_files import Scripts

WORD = 1000  # bytes; Debian's csh takes no word of 16,000
STANDARD_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_ENVIRONMENT = Scripts(__package__).functions("environment") + "\n"

# No newline, `!`, backslash or single quote in here. {sync}: waits for the line that our data begins behind.
_START = (
    "set +aefuvxC; unset -f command printf tr read; account=$(umask; export -p); "
    f"standard={STANDARD_PATH}; "
    "command -v tr >/dev/null || PATH=${PATH:+$PATH:}$standard; LC_ALL=C; export PATH LC_ALL; "
    "printf %s%s {second} {first} >&2; printf %s%s {first} {second}; {sync}"
    'coded=$(printf %s "$@"); if command -v tr >/dev/null; then '
    'coded=$(printf %s "$coded" | tr "Z[~]&^(" "Z-]&-("); else {no_tr}fi; '
    'coded=$(printf %b "$coded"); eval "$coded"'
)
# The same where there is no tr (toybox): a backslash is what sed's `l` writes for the end of a first line,
# and IFS puts one in the place of another. The dot keeps an empty last field.
_NO_TR = (
    'back=$( (echo; echo) | sed -n "N;l"); back=${back%n?}; set -f; '
    'IFS="~"; set -- $coded.; IFS=$back; coded="$*"; '
    'IFS="^"; set -- $coded; IFS=$(printf %b "${back}0047"); coded="$*"; '
    "unset IFS; set +f; coded=${coded%.}; "
)
_SYNC = 'line=; until [ "$line" = {sync} ]; do IFS= read -r line || exit 75; done; '

# `~` stands for a backslash and `^` for a quote; tr's ranges are how to name both without writing them.
# Behind that come the escapes of printf's %b.
_CODES = {bytes([c]): b"~0%03o" % c for c in range(256) if not 32 <= c < 127 or c in b"!~^"}
_CODES |= {b"\n": b"~n", b"\t": b"~t", b"\\": b"~~", b"'": b"^"}
_CODED = re.compile(b"[" + re.escape(b"".join(_CODES)) + b"]")


def encode(script: bytes) -> bytes:
    """The script in printable ASCII without newline, `!`, backslash and single quote."""
    return _CODED.sub(lambda found: _CODES[found[0]], script)


@dataclass(frozen=True)
class Request:
    """One exec request, and by what to know the answer.

    text:      the request.
    mark:      what stdout begins behind; err_mark: the same for stderr.
    sync:      the line to be sent before any data; b"" where the request takes none.
    """

    text: bytes
    mark: bytes
    err_mark: bytes
    sync: bytes

    @classmethod
    def of(cls, script: str, *, takes_data: bool = False) -> Request:
        """The request that runs `script`; takes_data: data follows for its standard input."""
        if "\0" in script:
            raise ValueError("a NUL can't enter a command")
        first, second, sync = (secrets.token_hex(8) for _ in range(3))
        start = _START.replace("{sync}", _SYNC.replace("{sync}", sync) if takes_data else "")
        start = start.replace("{first}", first).replace("{second}", second).replace("{no_tr}", _NO_TR)
        coded = encode((_ENVIRONMENT + script).encode("utf-8", "surrogateescape"))
        words = b" ".join(b"'%s'" % coded[at : at + WORD] for at in range(0, len(coded), WORD))
        return cls(
            b"exec /bin/sh -c '%s' sh %s" % (start.encode(), words),
            (first + second).encode(),
            (second + first).encode(),
            sync.encode() + b"\n" if takes_data else b"",
        )


# Reads the script from standard input: all of it, or nothing. A shell runs a group only once it has read its
# closing brace, so half a script is a syntax error.
FROM_STDIN = 'eval "$(cat)"'


def whole(script: str) -> bytes:
    """A script as FROM_STDIN wants it."""
    return b"{ :\n%s\n}\n" % script.encode("utf-8", "surrogateescape")
