"""What the last failed command has seen, in words. Its record is a file: nothing in it is taken for sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..events import count, size

DEEPER = "Whatever it was may come and go, or show only after a while: --deep watches idle connections, "
REHEARSE = "--rehearse builds a small deployment."


def phase(incident: Mapping[str, Any] | None) -> str:
    """The step in which it failed, "" if nothing did, or if it was no fault of the host's."""
    return "" if incident is None or ours(incident) else str(incident["phase"])


def ours(incident: Mapping[str, Any]) -> bool:
    """Whether it was a mistake of Switchover's own."""
    return incident.get("kind") == "OwnMistake"


def told(incident: Mapping[str, Any]) -> str:
    """One line: where it failed, when, why, and what it had seen until then."""
    what, when = incident.get("what", ""), incident.get("time", "?")
    if ours(incident):
        return f"The last command ended by a mistake of Switchover's own ({when}): {incident.get('why', '')}"
    seen = "; ".join(_seen(incident))
    words = [f"The last command failed in {incident['phase']} ({when}): {what}", str(incident.get("why", ""))]
    return " ".join(word for word in (*words, f"({seen})" if seen else "") if word)


def _seen(incident: Mapping[str, Any]) -> list[str]:
    seen = []
    number, causes = incident.get("reconnects"), incident.get("losses")
    if isinstance(number, int) and number:
        named = sorted({str(cause) for cause in causes})[:3] if isinstance(causes, list) else []
        seen.append(f"{count(number, 'reconnection')} before: {', '.join(named) or 'nobody knows why'}")
    sent, took = incident.get("bytes_uploaded"), incident.get("seconds")
    if isinstance(sent, int) and sent:
        seen.append(f"{size(sent)} sent")
    if isinstance(took, int | float) and took:
        seen.append(f"{took:g} s in all")
    return seen


def addition(incident: Mapping[str, Any]) -> str:
    """What is to be said of it where nothing is wrong now."""
    if ours(incident):
        return (
            "Yet the last command ended by a mistake of Switchover's own, no fault of the host's: report it."
        )
    return f"Yet the last command failed in {incident['phase']}. {DEEPER}{REHEARSE}"
