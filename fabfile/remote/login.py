"""Logging in: each key in its turn, then what the server wants besides."""

from __future__ import annotations

from typing import Any

import paramiko

from ..errors import AuthenticationFailed, KeyFileUnusable
from .identities import Offer, Unusable, Ways, offers
from .transport import Transport

KEYS_OFFERED_LIMIT = 64

_PROBLEMS = {
    "missing": ("is not there", "Correct the path."),
    "unreadable": ("can't be read", "Make it readable for this account."),
    "open": ("can be read by others, and such a key ssh does not use either", "Say: chmod 600 {path}"),
    "public": (
        "holds a public key, and no agent has the private one",
        "Name the private key (without .pub), or load it into the agent: ssh-add.",
    ),
    "encrypted": (
        "is encrypted",
        "Load it into ssh-agent (ssh-add {path}), or give --prompt-for-passphrase.",
    ),
    "damaged": ("holds no private key that can be read", "See what it is: ssh-keygen -y -f {path}"),
}


class Login:
    """One login of `user`. where: how messages call it."""

    def __init__(self, transport: Transport, user: str, where: str, ways: Ways) -> None:
        self.transport = transport
        self.user = user
        self.where = where
        self.ways = ways
        self.offered: list[str] = []
        self.allowed: list[str] = []  # the methods that the server takes, as far as it has said
        self.partial = False  # the server took something, and wants more
        ways.unusable.clear()

    def run(self) -> None:
        """Log in. Raises AuthenticationFailed when the server has refused everything, KeyFileUnusable when
        that is because a key file is not what it should be, and what ended the connection.
        """
        if self._by_keys() or self._by_password():
            return
        if not self.offered and self._try(lambda h, done: h.auth_none(self.user, done)):
            return
        raise self._refused()

    def _by_keys(self) -> bool:
        for offer in offers(self.ways):
            if len(self.offered) >= KEYS_OFFERED_LIMIT:
                break
            self.transport._log(paramiko.common.DEBUG, f"Trying {offer.name}")
            self.offered.append(offer.name)
            if self._by_key(offer):
                return True
            if self.allowed and "publickey" not in self.allowed:
                break
        return False

    def _by_key(self, offer: Offer) -> bool:
        try:
            return self._try(lambda h, done: h.auth_publickey(self.user, offer.key, done))
        except TimeoutError:
            raise  # a silence is no refusal
        except (paramiko.SSHException, OSError):
            if not self.transport.is_active():
                raise
            return False  # it could not sign: an agent that says no, or an algorithm that is too old

    def _try(self, begin: object) -> bool:
        """Whether we are in by this; else `allowed` is what remains."""
        try:
            self.allowed = self.transport.ask_for_login(begin)  # type: ignore[arg-type]  # Paramiko has no types
        except paramiko.AuthenticationException as error:
            if not self.transport.is_active():
                raise
            self.allowed = list(getattr(error, "allowed_types", None) or self.allowed)
            return False
        self.partial = self.partial or bool(self.allowed)
        return not self.allowed

    def _by_password(self) -> bool:
        password = self.ways.password
        if password is None:
            return False

        def answers(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            return [password for _ in prompts[:10]]

        methods = {
            "password": lambda h, done: h.auth_password(self.user, password, done),
            "keyboard-interactive": lambda h, done: h.auth_interactive(self.user, answers, done),
        }
        for name, begin in methods.items():
            if not self.allowed or name in self.allowed:
                self.offered.append(f"the password ({name})")
                if self._try(begin):
                    return True
        return False

    def _refused(self) -> AuthenticationFailed:
        wanted = [name for name in ("password", "keyboard-interactive") if name in self.allowed]
        fields: dict[str, Any] = {"methods": tuple(self.allowed), "offered": tuple(self.offered)}
        offered = f"offered: {', '.join(self.offered) or 'no key, since none was found'}"
        takes = f"; the server takes {', '.join(self.allowed)}" if self.allowed else ""
        if self.partial and not (wanted and self.ways.password):
            return AuthenticationFailed(
                f"{self.where} wants a second proof of who you are.",
                f"it took the key, and wants {' or '.join(wanted or self.allowed)} besides",
                "Give it with --prompt-for-login-password: a password or a one-time code. A connection "
                "that is lost can't be made again with a code that was used."
                if wanted
                else "Offer all the keys that it wants: one IdentityFile line each in ssh_config.",
                partial=True,
                **fields,
            )
        if self.partial and wanted:
            return AuthenticationFailed(
                f"{self.where} refused the second proof of who you are.",
                f"it took the key, and refused what was given for {' and '.join(wanted)}",
                "Type it again: a password that is wrong, or a one-time code that was used or is too old, is "
                "not tried twice.",
                partial=True,
                **fields,
            )
        unusable = self.ways.unusable
        if unusable and not self.partial and (unusable[0].path in self.ways.files[:1] or not self.offered):
            return _unusable(self.where, unusable, offered + takes, fields)
        prompt = ""
        if wanted and self.ways.password is None:
            prompt = " Or log in by password: --prompt-for-login-password."
        return AuthenticationFailed(
            f"{self.where} refused the login.",
            "; ".join([offered + takes, *(f"not used: {_explained(each)}" for each in unusable)]),
            "Give the right key with -i FILE, the right user with -H user@host, and see that the "
            f"public key stands in ~/.ssh/authorized_keys there (mode 0600, folder 0700).{prompt}",
            **fields,
        )


def _unusable(where: str, files: list[Unusable], offered: str, fields: dict[str, Any]) -> KeyFileUnusable:
    first = files[0]
    is_what, hint = _PROBLEMS[first.problem]
    reasons = "; ".join(_explained(each) for each in files)
    return KeyFileUnusable(
        f"The key {first.path} for {where} {is_what}.",
        f"{reasons}; {offered}",
        hint.format(path=first.path),
        path=first.path,
        problem=first.problem,
        **fields,
    )


def _explained(file: Unusable) -> str:
    return f"{file.path} {_PROBLEMS[file.problem][0]}" + (f" ({file.detail})" if file.detail else "")
