"""What is said of hosts whose link was put back, or could not be."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from .commands.release import Release
from .errors import SwitchoverError
from .parallel import Fleet
from .session.going_live import served
from .typed import Typed


def may_serve_other(work: Release) -> bool:
    again = work.steps.result.again
    return again is not None and again.may_serve_other


def _served(work: Release) -> str:
    return served(work.steps.result, work.session.state)


def served_by_phrase(works: Sequence[Release]) -> list[str]:
    """What is served now: a line for all hosts of which the same is true."""
    by_phrase: dict[str, list[str]] = {}
    for work in works:
        by_phrase.setdefault(_served(work), []).append(work.steps.host.name)
    return [f"{', '.join(names)}: {phrase}" for phrase, names in by_phrase.items()]


def differ(
    fleet: Fleet,
    works: Sequence[Release],
    stuck: Sequence[Release],
    unsure: Sequence[Release],
    first: SwitchoverError | None,
) -> SwitchoverError:
    """The error where hosts differ, or may serve something else than what is live."""
    lines = []
    for work in stuck:
        host, result = work.steps.host.name, work.steps.result
        why = _sentence(fleet.last.get(host))
        lines.append(f"{host}: switched to {result.release}, could not be put back: {why}")
    lines += [f"{work.steps.host.name}: {_served(work)}" for work in works if work not in stuck]
    lines += [f"{w.steps.host.name}: {_sentence(_error_again(w))}" for w in unsure]
    steps = [line for work in stuck for line in _ways_back(fleet.typed, work)]
    hint = ["When the hosts answer again, type:", *steps] if stuck else []
    if unsure:
        hint.append("Run the after_switch hooks by hand, in what is live:")
        hint += [f"{_login(work)}  # {work.session.layout.current}" for work in unsure]
        steps += map(_login, unsure)
    error = SwitchoverError(
        "The hosts differ now, and this needs a person.",
        "\n".join([*lines, f"first error: {_sentence(first)}"]),
        "\n".join(hint),
        commands=steps,
    )
    error.step = first.step if first else ""
    return error


def _error_again(work: Release) -> SwitchoverError | None:
    again = work.steps.result.again
    return again.error if again else None


def _sentence(error: SwitchoverError | None) -> str:
    return f"{error.what} {error.why}" if error else "unknown"


def _ways_back(typed: Typed, work: Release) -> list[str]:
    """What to type for a host that could not be put back; nor could the lock be given back there."""
    host, before, current = work.steps.host, work.session.state, work.session.layout.current
    address, identity = host.connection.address, host.identity
    unlocking = typed.line(address, identity, "unlock", "--force")
    if before.live:
        return [unlocking, typed.line(address, identity, "rollback", "--to", before.live)]
    if before.target is None:
        return [unlocking, f"{_login(work)} {shlex.quote(shlex.join(['rm', current]))}"]
    # What was live is not ours: no rollback of ours leads there.
    link = shlex.join(["ln", "-sfn", before.target, current])
    return [unlocking, f"{_login(work)} {shlex.quote(link)}"]


def _login(work: Release) -> str:
    connection, identity = work.steps.host.connection, work.steps.host.identity
    key = ["-i", identity] if identity else []
    return shlex.join(["ssh", "-p", str(connection.port), *key, f"{connection.user}@{connection.host}"])
