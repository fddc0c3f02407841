"""What a secret looks like: in URLs, headers, commands, configuration files, and by its own form.

`remove` puts REMOVED in its place. It prefers to take a word too many: what is lost can be looked up where it
came from, what has been shown can't be taken back.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

REMOVED = "[removed]"

Replace = str | Callable[[re.Match[str]], str]

# -- names ---------------------------------------------------------------------------------------------

_WORDS = {
    "password", "passwd", "passphrase", "passcode", "pass", "pwd", "pw", "secret", "secrets", "token",
    "credential", "credentials", "apikey", "authtoken", "accesstoken", "jwt", "otp", "totp", "salt",
}  # fmt: skip
_GLUED = (
    "password", "passwd", "passphrase", "passwort", "secret", "token", "apikey", "secretkey",
    "accesskey", "privatekey", "encryptionkey", "signingkey", "masterkey", "accountkey", "sharedkey",
    "authkey", "appkey",
)  # fmt: skip
_KEYS = {
    "api", "access", "private", "secret", "auth", "encryption", "encrypt", "signing", "account",
    "shared", "master", "license", "app", "storage", "service", "deploy", "session", "cookie", "crypt",
    "cipher", "hmac", "in", "nonce", "admin", "server", "client", "write", "subscription",
    "integration", "webhook", "stripe", "mail",
}  # fmt: skip
# What a name ends with that tells about a secret and holds none: token_link, passwordFile, key_id.
_ABOUT = {
    "file", "path", "dir", "directory", "url", "uri", "link", "name", "type", "length", "len", "count",
    "size", "ttl", "expires", "expiry", "expiration", "age", "field", "policy", "min", "max", "prefix",
    "header", "authentication", "authenticator", "algorithm", "format", "rotation", "version", "prompt",
    "prompts", "reset", "changed", "at", "store", "manager", "helper", "provider", "class", "required",
    "enabled", "disabled", "limit", "env", "stdin", "fd", "hint", "ref", "needed", "attempts",
    "strength", "encoding", "generator", "validator", "timeout",
}  # fmt: skip
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def names_secret(name: str) -> bool:
    """Whether a variable, key, flag or parameter of this name holds a secret."""
    parts = [part.lower() for part in _PARTS.findall(name)]
    if not parts or (parts[-1] in _ABOUT and parts[-1] != "id"):
        return False
    if parts[-1] == "id":  # Vault's secret_id is one, an access key's id is none
        return parts[-2:-1] == ["secret"]
    last = [part for part in parts if not part.isdigit()][-2:]
    if last and (last[-1] in _WORDS or last[-1].endswith(_GLUED)):
        return True
    return "key" in parts and _is_secret_key(parts)


def _is_secret_key(parts: list[str]) -> bool:
    at = len(parts) - 1 - parts[::-1].index("key")
    after = set(parts[at + 1 :]) - {"data", "base", "pem", "value", "b", "old", "new"}
    return at > 0 and parts[at - 1] in _KEYS and all(part.isdigit() for part in after)


# -- values --------------------------------------------------------------------------------------------

_QUOTED = r"""\\"(?:(?!\\").){0,4000}\\" | "(?:\\.|[^"\\]){0,4000}" | '(?:\\.|[^'\\]){0,4000}'"""
# A quote inside a word belongs to it; what closes a bracket or ends a sentence does not.
_BARE = r"""(?: [^\s"'`<>] | ["'](?=\w) )+ | ["'][^\n]*"""
_VALUE = rf"(?: {_QUOTED} | {_BARE} )"
_XI = re.X | re.I
_GAP = r"(?: [ \t] | \\\r?\n )+"  # between two words of a command, which may go on in the next line

# Words that stand where a value would, and variables: they tell nothing.
_PLAIN = re.compile(
    r"""(?: expected|unknown|required|missing|invalid|incorrect|wrong|expired|denied|refused|failed|accepted
      |must|not|is|was|has|no|yes|true|false|null|none|nil|on|off|ok|empty|unset|set|changed|needed|to|for|or|and|from
      |string|str|optional|default|ask|prompt|\*+|•+|x{3,}|\.{3}|…|basic|bearer
      |\$\w+|\$\{[^}]*\}|\$\([^)]*\)?|%\w+%|\{\{.*|\{\w*\}?|<.*|\[|\(|env\(.*
      |getenv\(.*|process\.env.*|os\.(?:environ|getenv).*
      |\[removed\] )""",
    re.I | re.X,
)
_BARE_END = re.compile(r"[)\]},;.:]*$")


def _hide(value: str) -> str:
    """REMOVED in the quotes of `value`; the value itself where it tells nothing."""
    if value.startswith(REMOVED):
        return value
    for quote in ('\\"', '"', "'"):
        if len(value) >= 2 * len(quote) and value.startswith(quote) and value.endswith(quote):
            inner = value[len(quote) : -len(quote)]
            return value if not inner or _PLAIN.fullmatch(inner) else f"{quote}{REMOVED}{quote}"
    if _PLAIN.fullmatch(value) or _PLAIN.fullmatch(_BARE_END.sub("", value)):
        return value
    tail = _BARE_END.search(value)
    kept = tail.group() if tail else ""
    return value if kept == value else REMOVED + kept


# What may be a secret's name: names_secret decides.
_HINTS = ("pass", "pwd", "pw", "secret", "token", "key", "cred", "jwt", "otp", "salt")
_NAME = rf"(?P<name>[\w.-]{{0,60}}?(?:{'|'.join(_HINTS)})[\w-]{{0,60}})"
_IS_PATH = re.compile(r"[\"']?~?\.{0,2}(?:/[\w.@+-]+){2,}[\"']?")


def _assigned(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    if not names_secret(name) or (name.lower() in ("pwd", "oldpwd") and value.startswith("/")):
        return match.group()
    if name.lower().endswith("key") and _IS_PATH.fullmatch(value):
        return match.group()
    if name.lower() in ("pass", "pw") and re.match(r"\d+(?:[\s,;.]|$)", value):  # "pass: 12, fail: 0"
        return match.group()
    return match.group()[: match.start("value") - match.start()] + _hide(value)


def _line_of_yaml(match: re.Match[str]) -> str:
    if _PLAIN.fullmatch(re.split(r"[\s,;]", match["value"], maxsplit=1)[0]):
        return match.group()
    return _assigned(match)


def _after_flag(match: re.Match[str]) -> str:
    return match.group() if match["value"].startswith("-") else _assigned(match)


# -- commands ------------------------------------------------------------------------------------------

_SHELL_WORD = r"""(?: [^\s"'|;&] | "(?:\\.|[^"\\])*" | '[^']*' | \\. )+"""

# Programs, and the flags of theirs that take a secret.
_TOOLS = (
    (r"mysql\w*|maria[\w-]*|7z\w?|mongo\w*", r"\s-p"),
    (r"sshpass|mongo\w*|cqlsh|ncftp\w*", rf"\s-p{_GAP}?"),
    (r"(?:docker|podman|helm|buildah|skopeo|oc|az|nerdctl)\b[^\n]{0,80}?\blogin", rf"\s-p(?:{_GAP}|=)?"),
    (r"redis-cli", rf"\s-a{_GAP}?"),
    (r"ldap\w+", rf"\s-w{_GAP}?"),
    (r"plink|pscp|psftp", rf"\s-pw{_GAP}"),
    (r"zip|unzip|sqlcmd|bcp|mosquitto_\w+", rf"\s-P{_GAP}?"),
    (
        r"curl|http|https|lftp|smbclient|rclone|wget",
        rf"\s(?:-\w*[uUa]|--user|--proxy-user|--auth)(?:{_GAP}|=)?",
    ),
    (r"htpasswd", rf"\s-\w*b\w*{_GAP}(?:{_SHELL_WORD}{_GAP})?{_SHELL_WORD}{_GAP}"),
    (r"rabbitmqctl", rf"(?:add_user|change_password){_GAP}{_SHELL_WORD}{_GAP}"),
    (r"vault", rf"\blogin{_GAP}(?!-)"),
    (
        r"composer",
        rf"\b(?:http-basic|bearer|github-oauth|gitlab-token)\.\S+{_GAP}(?:{_SHELL_WORD}{_GAP}(?=\S))?",
    ),
    (r"kubectl", rf"--from-literal(?:{_GAP}|=)[\w.-]+="),
)
_ANY_TOOL = rf"\b(?:{'|'.join(tools for tools, _ in _TOOLS)})\b"


def _commands(text: str) -> str:
    if not re.search(_ANY_TOOL, text, re.I):
        return text
    for tools, flag in _TOOLS:
        command = rf"(?<![\w/.-])(?:[\w./-]{{0,200}}/)?(?:{tools})(?![\w-])(?:{_GAP}{_SHELL_WORD})*"
        secret = re.compile(rf"({flag})({_SHELL_WORD})", re.X)
        for found in reversed(list(re.finditer(command, text, _XI))):
            text = text[: found.start()] + secret.sub(_argument, found.group()) + text[found.end() :]
    return text


def _argument(match: re.Match[str]) -> str:
    flag, value = match.groups()
    if not value or re.fullmatch(r"-.*|\$\w+|\$\{\w+\}|\[removed\]", value):
        return match.group()
    return f"{flag}{REMOVED}"


# -- tables --------------------------------------------------------------------------------------------


def _basic(match: re.Match[str]) -> str:
    """`Basic dXNlcjpwYXNz`, but not "basic authentication"."""
    try:
        said = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4), validate=True)
    except (binascii.Error, ValueError):
        return match.group()
    return f"{match[1]}{REMOVED}" if b":" in said else match.group()


def _looks_random(value: str) -> bool:
    return len(value) >= 5 and bool(re.search(r"[^A-Za-z.,;]", value.strip("\"'`.,;")))


def _spoken(match: re.Match[str]) -> str:
    """`the password is hunter2`, but not "the password is wrong"."""
    return f"{match[1]}{REMOVED}" if _looks_random(match[2]) and match[2] != REMOVED else match.group()


def _userinfo(match: re.Match[str]) -> str:
    scheme, user = match[1], match[2]
    known = scheme.lower().startswith(("ssh", "sftp", "git+ssh", "rsync", "scp")) and ":" not in user
    return match.group() if known or user == REMOVED else f"{scheme}{REMOVED}@"


def _header(match: re.Match[str]) -> str:
    return match.group() if _PLAIN.fullmatch(match[2].strip(" .,;")) else f"{match[1]}{REMOVED}"


# Tokens that are known by how they begin.
_TOKENS = r"""(?<![A-Za-z0-9_])(?:
    gh[pousr]_\w{4,} | github_pat_\w{4,} | gl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent|oas|sa)[-_][\w.-]{4,}
  | xox[a-z]-[\w-]{4,} | xapp-[\w-]{8,} | (?:sk|rk|pk|whsec)_(?:live|test)_\w{4,} | whsec_[\w+/=]{8,}
  | sk-(?=[\w-]*\d)(?![\w-]*@)[\w-]{12,} | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{8,} | AIza[\w-]{8,}
  | ya29\.[\w.-]{4,} | GOCSPX-[\w-]{8,} | npm_\w{4,} | pypi-[\w-]{4,} | SG\.[\w.-]{4,} | hf_\w{4,}
  | do[por]_v1_\w{4,} | shp(?:at|ss|ca|pa)_\w{8,} | dckr_(?:pat|oat)_[\w-]{4,} | hv[sbr]\.[\w-]{8,}
  | AT(?:ATT|BB|CTT)\w[\w=-]{8,} | figd_[\w-]{8,} | lin_api_\w{8,} | gsk_\w{16,} | xai-\w{16,} | r8_\w{16,}
  | AGE-SECRET-KEY-1\w+ | sq0(?:atp|csp)-[\w-]{8,} | key-[0-9a-f]{32} | \d{8,10}:AA[\w-]{30,}
  | NRAK-\w{8,} | PMAK-[\w-]{8,} | tskey-[\w-]{8,} | sbp_\w{16,} | rubygems_\w{8,} | pul-\w{16,}
  | sntry[su]_[\w+/=-]{8,} | \w{14}\.atlasv1\.[\w-]{16,} | CFPAT-[\w-]{8,} | eyJ[\w-]{4,}(?:\.[\w-]*){1,4}
  )"""
_HASHES = r"""\$(?:apr1|[156y]|2[abxy]|argon2\w*|scrypt|7|gy|sha1|md5)\$[\w./$+=,-]{8,}
  | \{S?SHA\d*\}[\w+/=]{8,} | \{CRYPT\}\S+ | (?<![\w*])\*[0-9A-F]{40}\b | \bSCRAM-SHA-\d+\$[\w:$+/=]+
  | \bpbkdf2_sha\d+\$[\w$+/=]+ | \bmd5[0-9a-f]{32}\b"""
_PARAMETER = r"""(?:
    [\w.%\[\]-]{0,60}?(?:token|sig|signature|secret|pass|passwd|password|pwd|credential|jwt|otp|hmac|sas|ticket
      |session)[\w.%\]-]{0,60}
  | x-(?:amz|goog)-[\w-]+ | (?:[\w%-]{0,60}?(?:api|access|auth|private|signing|shared)[-_]?)?key | code
  | auth | sid)"""
_TO_QUOTE = r"[^\r\n\"']*[^\s\"']"
_FIRST = r"(?<![\w.-])"  # the beginning of a name

# Private keys: also cut short, also as one line with \n in it; PuTTY's.
_KEY_BLOCKS = (
    r"-----BEGIN [^-\n]{0,40}PRIVATE KEY[^-\n]{0,40}-----.*?(?:-----END [^-\n]{0,80}-----|\Z)",
    r"Private-Lines: \d+.*?(?:Private-(?:MAC|Hash): \S+|\Z)",
)
_KEY_END = re.compile(r"-----END [^-\n]{0,40}PRIVATE KEY[^-\n]{0,40}-----")
# To the last @ before the path; a password may hold a slash or an @, where a port does not.
_USERINFO = r"""\b([A-Za-z][\w+.-]{0,20}://)
    ([^\s/@'"<>:]{0,300}:(?!\d+/)[^\s'"<>]{0,1000}|[^\s/'"<>?\#]{0,1000})@(?=[\w\[.$({-])"""
_WEBHOOK = (
    r"(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/\d+/)"
    r"(?!\[)[\w/-]+"
)
_AUTHORIZATION = rf"""((?:proxy-)?authorization["']?(?:\s*[:=]\s*|\\?\s+)["']?)
    ((?:(?:basic|bearer|token|apikey|negotiate|ntlm)(?:\\?\s)+[^\s"']+|{_TO_QUOTE})
     (?:\r?\n[ \t]+[\w+/=.-]{{16,}}(?=\s|$))*)"""
_COOKIE = rf"(\b(?:set-)?cookie2?\s*:\s*)({_TO_QUOTE})"
_X_HEADER = rf"""(?:^|(?<=\W))
    (x-[\w-]{{0,60}}?(?:key|token|secret|auth|signature|password)[\w-]{{0,60}}["']?\s*:\s*["']?)
    ({_TO_QUOTE})"""
# `password: |` of YAML, with what stands indented under it.
_BLOCK = rf"""(?m)^(?P<lead>[ \t]*(?:-[ ])?){_NAME}(?P<sep>["']?[ \t]*:[ \t]*[|>][+-]?\d?[ \t]*\n)
    (?P<value>(?P<indent>[ \t]+)[^\n]*(?:\n(?P=indent)[^\n]*)*)"""
# `password: two words`, to the end of the line.
_TO_END = rf"""(?m)^(?P<lead>[ \t>|+-]*){_FIRST}{_NAME}(?P<sep>[ \t]*(?::[ \t]+|[ \t]=[ \t]+))
    (?P<value>[^\s"'\[{{|>][^\n]*)$"""
_CALL = (
    rf"""\b(?:define|env|config|set\w*|const|putenv)\s*\(\s*\\?["']{_NAME}\\?["']\s*,\s*(?P<value>{_VALUE})"""
)
_ASSIGNMENT = rf"""{_FIRST}{_NAME}(?P<sep>(?:\\?["'`])?\]?\s*(?:=>|:=|==?|:(?!//))\s*)(?P<value>{_VALUE})"""
_FLAG = rf"(?<![\w-])-{{1,2}}{_NAME}{_GAP}(?P<value>{_VALUE})"
_SPACED = rf"""\b(?P<name>aws_secret_access_key|aws_session_token|_authToken|requirepass|masterauth)\s+
    (?P<value>{_VALUE})"""
_ECHOED = rf"""(\b(?:echo|printf)\s+(?:-\w+\s+|'%s(?:\\n)?'\s+)*)(?:{_SHELL_WORD})
    (\s*\|\s*(?:sudo|docker|podman|passwd|chpasswd|gpg|helm|kinit|su)\b)"""
_IDENTIFIED = rf"(\bidentified\s+(?:with\s+\S+\s+)?by\s+(?:password\s+)?)(?:{_QUOTED})"
_SAID = r"""(\b(?:password|passphrase|token|secret|api\ key)\s+
    (?:is\ generated\ for\s+\S+:|for\s+\S+\s+is:?|is:?|was:?)\s+)(\S+)"""


def _one_value(match: re.Match[str]) -> str:
    return match.group()[: match.start("value") - match.start()] + _hide(match["value"])


_KEEP_1 = rf"\1{REMOVED}"
_X, _I = re.X, re.I


# Where it is worth a look (texts with one of these in small letters), the pattern, and what takes its place.
_RULES: tuple[tuple[tuple[str, ...], str, int, Replace], ...] = (
    *((("-----begin", "private-lines"), block, re.S, REMOVED) for block in _KEY_BLOCKS),
    ((" aaaa",), r"\b((?:ssh|ecdsa|sk)-[\w@.-]+) AAAA[\w+/=]+", 0, rf"\1 {REMOVED}"),
    # URLs
    (("://",), _USERINFO, _X, _userinfo),
    (("=",), rf"([?&;\#]{_PARAMETER}=)(?!\[removed\])([^\s&\#\"'<>`]+)", _I | _X, _KEEP_1),
    (("slack.com", "discord"), _WEBHOOK, 0, _KEEP_1),
    # Headers
    (("authorization",), _AUTHORIZATION, _X | _I, _header),
    (("cookie",), _COOKIE, _I, _header),
    (("x-",), _X_HEADER, _X | _I, _header),
    (("basic",), r"\b(basic\s+)([A-Za-z0-9+/]{6,}={0,2})", _I, _basic),
    (("bearer",), r"\b(bearer\s+)(?=\S*[\d._~+/=-])[\w.~+/=-]{6,}", _I, _KEEP_1),
    # By their own form
    ((), _TOKENS, _X, REMOVED),
    (("$", "sha", "md5", "*", "crypt"), _HASHES, _X, REMOVED),
    # Configuration
    (_HINTS, _BLOCK, _X | _I, _assigned),
    (_HINTS, _TO_END, _X | _I, _line_of_yaml),
    (_HINTS, _CALL, _X | _I, _assigned),
    (_HINTS, rf"<{_NAME}[^<>]{{0,200}}>(?P<value>[^<>]+)(?=</)", _I, _assigned),
    (_HINTS, _ASSIGNMENT, _X | _I | re.S, _assigned),
    (_HINTS, _FLAG, _X | _I, _after_flag),
    (_HINTS, _SPACED, _X | _I, _one_value),
    (("auth",), r"(\"auth\"\s*:\s*\")[\w+/=]{8,}", 0, _KEEP_1),
    (("auth",), r"((?:^|\s)REDISCLI_AUTH=|:_auth\s*=\s*)(?!\[removed\])[^\s\"']+", 0, _KEEP_1),
    (("password",), r"(\blogin\s+\S+\s+password\s+)(?!\[removed\])\S+", _I, _KEEP_1),  # .netrc
    # .pgpass
    ((":",), r"(?m)^([\w.*-]+:(?:\d{2,5}|\*):[\w*-]+:[\w.@*-]+:)(?!\[removed\])\S+(?=[ \t]*$)", 0, _KEEP_1),
    # SQL, OpenSSL, pipes, sentences
    (("identified",), _IDENTIFIED, _I | _X, _KEEP_1),
    (("password",), rf"(\bpassword(?:\s+|\s*\(\s*))(?:{_QUOTED})", _I | _X, _KEEP_1),
    (("pass",), r"(\bpass(?:in|out)?[ =:]*pass:)(?!\[removed\])[^\s\"']+", 0, _KEEP_1),
    (("echo", "printf"), _ECHOED, _X, rf"\1{REMOVED}\2"),
    (_HINTS, _SAID, _X | _I, _spoken),
)  # fmt: skip
_AWS_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{8,}")
_AWS_SECRET = re.compile(r"(?<![\w/+=])(?![0-9a-f]{40}(?![\w/+=]))[A-Za-z0-9/+]{40}(?![\w/+=])")


def remove(text: str) -> str:
    """`text` without what looks like a secret."""
    if _AWS_ID.search(text):
        text = _AWS_SECRET.sub(REMOVED, text)
    text = _commands(text)
    low = text.lower()
    for hints, form, flags, instead in _RULES:
        if not hints or any(hint in low for hint in hints):
            text = re.compile(form, flags).sub(
                instead, text
            )  # compiled when first needed: that takes a while
    return _without_tails(text) if "-----END" in text else text


def _without_tails(text: str) -> str:
    """Without the end of a private key whose beginning was cut off."""
    done, at = [], 0
    for end in _KEY_END.finditer(text):
        pieces = re.split(r"(\s|\\[nr])", text[at : end.start()])
        while pieces and re.fullmatch(r"\s|\\[nr]|[\w+/=]{16,}|[\w+/]*={0,2}", pieces[-1]):
            pieces.pop()
        done += [*pieces, REMOVED]
        at = end.end()
    return "".join([*done, text[at:]])
