"""What takes too long."""

from __future__ import annotations

from ..case import Case
from ..finding import Fix

SLOW_LOGIN = 5.0  # seconds
SESSION_WITHIN = 10.0  # seconds at least that a deployment gives the first session
SLOW_AFTERWARDS = 3.0  # seconds from an accepted login to the first answer


def login(case: Case, host: str, took: float, timeout: float, *, late: bool = False) -> None:
    """How long it took until a login was accepted. late: no deployment would have waited for it."""
    case.facts["login"] = f"{took:.2f} s"
    if took >= SLOW_LOGIN:
        why = (
            f"{took:.1f} s from the first packet to the answer; ssh.connect_timeout is {timeout:g} s a stage"
        )
        _slow(case, host, took, why, late=late)


def greeting(case: Case, host: str, took: float, timeout: float) -> None:
    """It greets, though later than ssh.connect_timeout allows."""
    case.fail(
        "slow-login", f"No login in time: {host} takes {took:.0f} s to greet.",
        f"the first connection was given {timeout:g} s (ssh.connect_timeout), a second one was greeted after "
        f"{took:.1f} s",
        "The host is overloaded, looks up this machine's name (UseDNS), or something in front of it delays "
        "connections. Give it time:",
        Fix("config.yaml", f"ssh: {{connect_timeout: {max(30, round(took * 2))}}}"), seconds=round(took, 2),
    )  # fmt: skip


def after_the_login(case: Case, host: str, took: float, timeout: float) -> None:
    """How long the server was silent once it had accepted the login: PAM opens its session then."""
    if took >= SLOW_AFTERWARDS:
        why = (
            f"the login was accepted, and then {took:.1f} s passed before the server answered anything: it "
            "opened the session (PAM) meanwhile"
        )
        _slow(case, host, took, why, late=took > max(timeout, SESSION_WITHIN))


def _slow(case: Case, host: str, took: float, why: str, *, late: bool = False) -> None:
    no_login = "No login in time: each" if late else "Each"
    case.judge(
        "fail" if late else "warn", "slow-login",
        f"{no_login} connection costs {took:.0f} s, so long takes the login at {host}.", why,
        "Something that the login runs through is slow: PAM (LDAP, a directory that does not answer), the "
        "name of this machine's address (UseDNS), or the host is overloaded. Each reconnection pays it "
        "again. Give it time:",
        Fix("config.yaml", "ssh: {connect_timeout: 30}"), seconds=round(took, 2),
    )  # fmt: skip
