"""Secrets and names don't leave this machine in a report, and what stands there is text."""

from __future__ import annotations

import json
import re
import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fabfile import redaction
from fabfile.redaction import REMOVED, KeyBlocks, anonymize, clean, document, learn, learn_url, redact

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v joe@laptop"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7S3cR3t\nq8bN\n-----END RSA PRIVATE KEY-----"
HUNTER = "hUnter2-x"

# Each with the word that must not be seen.
SECRETS = [
    ("DB_PASSWORD=hunter2 refused", "hunter2"),
    ("export DB_PASSWORD=hunter2; php artisan", "hunter2"),
    ("PGPASSWORD=hunter2 psql", "hunter2"),
    ("MYSQL_PWD=hunter2", "hunter2"),
    ("DB_PASS='two words' x", "two words"),
    ("password: 'two words' and more", "two words"),
    ("password: two words", "words"),
    ("  password = two words\n", "words"),
    ("password: |\n    hunter2\n    more\nnext: 1", "hunter2"),
    ('{"api_key": "abc123", "n": 1}', "abc123"),
    ('{"password": "with \\" quote"}', "quote"),
    (r'{\"password\": \"hunter2\"}', "hunter2"),
    ("'password' => 'hunter2',", "hunter2"),
    ("$db['password'] = 'hunter2';", "hunter2"),
    ("define('DB_PASSWORD', 'hunter2');", "hunter2"),
    ('define( "AUTH_KEY", "hunter2" );', "hunter2"),
    ("<password>hunter2</password>", "hunter2"),
    ("clientSecret: hunter2", "hunter2"),
    ("SECRET_KEY_BASE=hunter2", "hunter2"),
    ("APP_KEY=base64:aGVsbG8=", "aGVsbG8"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalr"),
    ("aws configure set aws_secret_access_key wJalrXUtnFEMI", "wJalr"),
    ("AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalr"),
    ("//registry.npmjs.org/:_authToken=abcdef", "abcdef"),
    ("Server=h;User=u;Password=hunter2;Database=d", "hunter2"),
    ("AccountKey=abc123==;EndpointSuffix=x", "abc123"),
    ("machine h login joe password hunter2", "hunter2"),
    ("localhost:5432:shop:joe:hunter2", "hunter2"),
    ("cloning https://joe:s3cret@git.example.com/x", "s3cret"),
    ("https://ghtoken0123@github.com/x", "ghtoken"),
    ("postgres://joe:p@ss@db.example.com/shop", "ss@"),
    ("redis://:hunter2@cache:6379/0", "hunter2"),
    ("amqp://u:a/b@h/v", "a/b"),
    ("GET /hook?token=hunter2&x=1", "hunter2"),
    ("https://b.s3.amazonaws.com/o?X-Amz-Signature=abc123", "abc123"),
    ("https://x/?sig=abc123", "abc123"),
    ("https://x/cb#access_token=abc123", "abc123"),
    ("https://x/?a=1&code=abc123", "abc123"),
    ("https://x/?key=abc123", "abc123"),
    ("https://hooks.slack.com/services/T0/B0/XXyyZZ", "XXyyZZ"),
    ("Authorization: Bearer eyJhbGciOi.payload", "eyJhbGciOi"),
    ("Proxy-Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("authorization: hunter2 and more", "hunter2"),
    ("curl -H 'Authorization: token hunter2' https://x", "hunter2"),
    ("curl -H 'X-Api-Key: two words' https://x", "words"),
    ("Cookie: session=hunter2; other=x", "hunter2"),
    ("Set-Cookie: sid=hunter2; Path=/", "hunter2"),
    ("curl -u joe:hunter2 https://x", "hunter2"),
    ("curl -sSu joe:hunter2 https://x", "hunter2"),
    ("curl --user 'joe:two words' https://x", "two words"),
    ("curl -u \\\n  joe:hunter2 https://x", "hunter2"),
    ("mysql -ujoe -phunter2 shop", "hunter2"),
    ("/usr/bin/mysqldump -u joe -p'two words' shop | gzip", "two words"),
    ("sshpass -p hunter2 ssh h", "hunter2"),
    ("docker login -u joe -p hunter2 registry", "hunter2"),
    ("redis-cli -a hunter2 ping", "hunter2"),
    ("--password hunter2", "hunter2"),
    ("--password=hunter2", "hunter2"),
    ("--db-password \\\n hunter2", "hunter2"),
    ("tool --api-key abc123 go", "abc123"),
    ("echo hunter2 | sudo -S reboot", "hunter2"),
    ("openssl rsa -passin pass:hunter2", "hunter2"),
    ("CREATE USER joe IDENTIFIED BY 'hunter2'", "hunter2"),
    ("ALTER USER joe PASSWORD 'hunter2'", "hunter2"),
    ("A temporary password is generated for root@localhost: h,nter2", "nter2"),
    ("The password is hunter2.", "hunter2"),
    ("joe:$apr1$abcdefgh$ijklmnopqrstuv", "ijklmnop"),
    ("joe:$2y$05$" + "a" * 53, "aaaa"),
    ("joe:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "W6ph5"),
    ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    *((f"it said {token}, then", token) for token in (
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "gho_16C7e42F292c69", "ghs_16C7e42F292c69",
        "github_pat_11ABCDEFG0abcdefghij_k", "glpat-abcDEF123456-_xyz", "xoxb-123456-abcdef",
        "xoxp-123456-abcdef", "sk-proj-abcDEF123456", "sk_live_abcDEF123", "rk_live_abcDEF123",
        "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "AIzaSyA-abcdefghijklmnop",
        "ya29.a0Af_abc", "npm_abcDEF123", "pypi-AgEIcHlwaS5",
        "SG.abcdef.ghijkl", "hf_abcDEF123", "dop_v1_abcdef123456", "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJ",
    )),
    (KEY, "AAAAC3NzaC1lZDI1NTE5"),
    (PEM, "MIIEpAIBAAKCAQEA7S3cR3t"),
    (PEM.replace("\n", "\\n"), "q8bN"),
    (PEM[:60], "MIIEpAIBAAKCAQEA"),
    (PEM[40:], "cR3t"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----", "b3Blbn"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----", "lQOYBF"),
    ("-----BEGIN RSA PRIVATE KEY-----\ncut off in the midd", "cut off"),
]  # fmt: skip

HARMLESS = [
    "publickey was refused; /home/joe/.ssh/id_ed25519 was offered",
    "ssh-ed25519 SHA256:TIjMFk1i/ylEMSzNjgzlCvGBvW03XN",
    "Subsystem sftp internal-sftp",
    "Your password has expired",
    "PasswordAuthentication no",
    "PasswordAuthentication: yes",
    "the token of the lock",
    "SFTP does not see /srv/shop/.switchover/lock/3/token_link, which the shell has just written",
    "token_link: /srv/shop/.switchover/lock/3/link",
    "password authentication: refused",
    "basic authentication is needed",
    "password_file=/run/secrets/db",
    "private_key: /home/joe/.ssh/id_ed25519",
    "DB_PASSWORD=$DB_PASSWORD ${DB_PASSWORD} is unset",
    "password: required",
    "the password is wrong",
    "6fcb52e8f7c1d0a9b8e7f6a5b4c3d2e1f0a9b8c7",
    "20261125033011 tree-8f7c1d0a9b8e",
    "joe@web1 (pid 12) since 2026-11-25T04:35:44+00:00, running `fab deploy`",
    "git@github.com:joe/shop.git",
    "ssh://git@example.com/shop.git",
    "http://127.0.0.1:8080/healthz",
    "http://localhost:8080/image@2x.png",
    "chacha20-poly1305@openssh.com, sk-ssh-ed25519@openssh.com",
    "tests: 12, pass: 11, fail: 1",
    "keys: 3, key count: 5, max_tokens: 4096",
    "mkdir -p /srv/shop && chown joe /srv/shop",
    "ssh -p 2222 joe@web1",
    "rsync -e 'ssh -p 2222' a b",
    "PWD=/srv/shop OLDPWD=/srv",
    "config.yaml:12  hooks.token: unknown key",
    "npm WARN deprecated monkey@1.0.0: keyboard turkey",
]


@pytest.mark.promise("secrets")
@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_are_removed(text: str, secret: str) -> None:
    assert secret in text and secret not in redact(text)
    assert REMOVED in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


WORDS = st.lists(st.text("abc XYZ/.,:;()[]|\n\t\"'", max_size=12), max_size=3).map(" ".join)


@given(before=WORDS, found=st.sampled_from([s for s in SECRETS if "\n" not in s[0]]), after=WORDS)
def test_secrets_are_removed_whatever_stands_around_them(
    before: str, found: tuple[str, str], after: str
) -> None:
    text, secret = found
    assert secret not in clean(f"{before}\n{text}\n{after}", lines=True)
    assert secret not in clean(f"\x1b[32m{text}\x1b[0m", colours=True)
    assert secret not in json.dumps(
        document({"why": [text], "evidence": {"seen": f"{before}\n{text}\n{after}"}})
    )


def test_a_colour_in_the_middle_hides_no_secret() -> None:
    assert "hunter2" not in clean("pass\x1b[1mword=\x1b[31mhun\x1b[0mter2", colours=True)


def test_a_key_that_comes_line_by_line_is_removed() -> None:
    blocks = KeyBlocks()
    shown = [blocks.line(line) for line in ["before", *PEM.split("\n"), "after"]]
    assert [line for line in shown if line] == ["before", "-----BEGIN RSA PRIVATE KEY-----", "after"]
    blocks = KeyBlocks()
    shown = [blocks.line(line) for line in [*PEM.split("\n")[:2], "the tool was killed", "and started again"]]
    assert shown[2:] == ["the tool was killed", "and started again"]  # it was cut short


@pytest.fixture
def unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_learned", {})
    monkeypatch.setattr(redaction, "_known", None)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x17F), min_size=8, max_size=20))
def test_what_was_learned_is_removed_in_each_form(secret: str) -> None:
    import base64
    import urllib.parse

    assume(secret not in f"it said {REMOVED} twice")
    learn(secret)
    for form in (secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode()):
        assert form not in redact(f"it said {form} twice")
    redaction._learned.clear()


def test_a_url_of_the_configuration_is_learned(unlearned: None) -> None:
    learn_url("https://joe:p%40ss-word@shop.example.com/healthz?deep=1&probe=abcdefgh1")
    shown = redact("curl: (22) p@ss-word p%40ss-word deep=1&probe=abcdefgh1; abcdefgh1; joe is deep in 1")
    assert not re.search("ss-word|abcdefgh1|deep=1", shown) and shown.endswith("joe is deep in 1")
    learn_url("git@github.com:joe/shop.git")
    assert redact("git@github.com") == "git@github.com"


def test_names_are_whole_words() -> None:
    text = "joe may not write in /home/joe/site; joey and join may; JOE at 10.1.2.3, 127.0.0.1, 12:30:00"
    shown = "user may not write in /home/user/site; joey and join may; user at address, 127.0.0.1, 12:30:00"
    assert anonymize(text, {"joe": "user"}) == shown


# -- neutral -------------------------------------------------------------------------------------------

ANYTHING = st.text(st.characters(exclude_categories=())) | st.text(
    "\x1b[]m;0123\x07\n\r\t\u202e\udcff👍é", max_size=60
)
SGR = re.compile(r"\x1b\[[\d;:]*m")


@given(ANYTHING, st.booleans(), st.booleans())
def test_only_text_comes_out(text: str, lines: bool, colours: bool) -> None:
    shown = clean(text, lines=lines, colours=colours)
    shown.encode()  # no half characters
    rest = SGR.sub("", shown) if colours else shown
    rest = rest.replace("\n", "") if lines else rest
    assert not [c for c in rest if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    if colours and SGR.search(shown):
        assert "\n" in shown or shown.endswith("m") or "\x1b[0m" in shown or "\x1b[m" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x1b[2J\x1b[31mred", r"\x1b[2Jred"),
        ("a\u202eb\u200bc\u2028d\x9be\x7f", r"a\u202eb\u200bc\u2028d\x9be\x7f"),
        ("two\nlines", r"two\nlines"),
        ("caf\udce9", r"caf\xe9"),
        ("é 日本 👍 \u00a0", "é 日本 👍 \u00a0"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_colours_stay_where_they_may_and_end_with_the_line() -> None:
    assert clean("\x1b[31mred", colours=True) == "\x1b[31mred\x1b[0m"
    assert clean("\x1b[8mhidden", colours=True) == r"\x1b[8mhidden"
    assert clean("\x1b[1;31mred\x1b[0m", colours=True) == "\x1b[1;31mred\x1b[0m"


def test_long_lines_are_cut_with_a_mark() -> None:
    assert clean("x" * 5000).endswith("… (3000 characters more)")


@given(
    st.recursive(
        ANYTHING | st.floats() | st.integers() | st.none() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANYTHING, inner, max_size=3),
        max_leaves=8,
    )
)
def test_a_document_is_valid_json_whatever_comes(value: object) -> None:
    text = json.dumps(document({"why": value}), allow_nan=False)
    json.dumps(json.loads(text), ensure_ascii=False).encode()  # no half characters


PIECES = ["a", "pass", "password:", '\\"', "://a:", "a@", "<pass", "curl -u ", "A1+/", "\x1b[1m"]


@pytest.mark.parametrize("piece", PIECES)
def test_a_long_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    def took(length: int) -> float:
        text, started = (piece * length)[:length], time.thread_time()
        clean(text, lines=True)
        return time.thread_time() - started

    assert min(took(16_000) for _ in range(3)) < 16 * max(min(took(4_000) for _ in range(3)), 0.002)
