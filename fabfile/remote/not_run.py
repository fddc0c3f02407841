"""The errors for a command that the host has not run: what was seen, and who may be why."""

from __future__ import annotations

from ..errors import CommandFailed, CommandTimedOut

NEEDS_A_SHELL = "The account may be restricted, have a forced command, or be for SFTP only: it needs a shell."

# What login shells that run nothing of ours say, in lower case.
_RESTRICTED = ("restricted", "not allowed", "forbidden", "permission denied")
_NO_LOGIN = ("not available", "nologin")


def not_ours(status: int, err: bytes, out: bytes) -> CommandFailed:
    """The error for an answer that our script has not given."""
    said = _shown(err.strip() or out)
    low = said.lower()
    shown = f"exit status {status}, and it said: {said}"
    if any(word in low for word in _NO_LOGIN) or (status and not (err + out).strip()):
        what = "The account's login shell runs no commands (nologin, /bin/false)."
    elif any(word in low for word in _RESTRICTED):
        what = "The account's login shell is a restricted one (such as rbash)."
    else:
        what = "The host ran something else than the command it was given."
    return CommandFailed(what, shown, NEEDS_A_SHELL, status=status, output=said)


def not_started(what: str, seconds: float, noise: bytes, *, eaten: bool) -> CommandTimedOut:
    """The error for a command, `what`, that has not begun. noise: what the login said; eaten: start-up files
    were seen to read their input to its end.
    """
    why = f"the login has run none of our commands within {seconds:.0f} s; it said: {_shown(noise)}"
    if eaten:
        return CommandTimedOut(
            f"{what} did not start: a start-up file of the account reads all that is sent to it.",
            f"{why}; one that takes no data began the moment its input was closed",
            "Let .bashrc (.zshenv, .cshrc, …) read nothing where there is no terminal: give what reads there "
            "</dev/null.",
        )
    return CommandTimedOut(
        f"{what} did not start.",
        why,
        "A start-up file of the account (.bashrc, .zshenv, .cshrc, …) may wait for input, or for a "
        "server: let it end at once where there is no terminal.",
    )


def _shown(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[:500] or "(nothing)"
