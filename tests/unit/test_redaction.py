"""Secrets and names don't leave this machine in a report."""

from __future__ import annotations

import pytest

from fabfile.redaction import anonymize, redact

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v joe@laptop"


@pytest.mark.promise("secrets")
@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("DB_PASSWORD=hunter2 refused", "hunter2"),
        ("password: 'two words' and more", "two words"),
        ('{"api_key": "abc123", "n": 1}', "abc123"),
        ("cloning https://joe:s3cret@git.example.com/x", "s3cret"),
        ("Authorization: Bearer eyJhbGciOi.payload", "eyJhbGciOi"),
        ("Authorization: Basic dXNlcjpzM2NyZXQ=", "dXNlcjpzM2NyZXQ"),
        ("proxy said: basic dXNlcjpzM2NyZXQ=", "dXNlcjpzM2NyZXQ"),
        ("SIGNING_PRIVATE_KEY=abcdef0123", "abcdef0123"),
        ("private-key: abcdef0123", "abcdef0123"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("access_key = AKIAIOSFODNN7", "AKIAIOSFODNN7"),
        ("passphrase: correct-horse", "correct-horse"),
        ("credentials=joe:s3cret", "s3cret"),
        (KEY, "AAAAC3NzaC1lZDI1NTE5"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----", "b3Blbn"),
        ("-----BEGIN RSA PRIVATE KEY-----\ncut off in the midd", "cut off"),
    ],
)
def test_secrets_are_removed(text: str, secret: str) -> None:
    assert secret in text and secret not in redact(text)
    assert "[removed]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "publickey was refused; /home/joe/.ssh/id_ed25519 was offered",
        "ssh-ed25519 SHA256:TIjMFk1i/ylEMSzNjgzlCvGBvW03XN",
        "Subsystem sftp internal-sftp",
        "Your password has expired",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_names_are_whole_words() -> None:
    text = "joe may not write in /home/joe/site; joey and join may"
    assert anonymize(text, ["joe"]) == "user may not write in /home/user/site; joey and join may"
