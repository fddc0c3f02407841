"""What is wrong with a command line, in plain words, with the nearest name that is known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import ConfigError


def explain(
    error: Exception, words: Sequence[str], core: Any, tasks: Iterable[Any], see_help: str
) -> ConfigError:
    """What made Invoke raise `error`. words: the tasks and flags that it was reading.

    core: Fabric's own flags; tasks: each with its flags (invoke.parser.ParserContext). Where the words are as
    they should be, Invoke's text is the reason.
    """
    if isinstance(error, OSError) and error.filename:
        return ConfigError(f"{error.filename} can't be read.", error.strerror or _text(error), see_help)
    found = _culprit(list(words), core, {name: task for task in tasks for name in (task.name, *task.aliases)})
    what, why = found or ("The command line is not understood.", _text(error))
    return ConfigError(what, why, see_help)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that is most like the word, as a question; or that there is none."""
    bare = {name.lstrip("-"): name for name in known}
    for near in difflib.get_close_matches(word.lstrip("-"), list(bare), n=1):
        return f"did you mean {bare[near]}?"
    return "nothing of a similar name is known"


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _culprit(words: list[str], core: Any, tasks: dict[str, Any]) -> tuple[str, str] | None:
    """The first word that can't be where it is: what is wrong with it, and what could be there."""
    task: Any = None
    while words:
        word, equals, value = words.pop(0).partition("=")
        if word == "--":
            return None
        flags = {**core.flags, **(task.flags if task else {}), **(task.inverse_flags if task else {})}
        if word in flags:
            flag = flags[word]
            if getattr(flag, "takes_value", False):
                given = [value] if equals else words[:1]
                if wrong := _wrong_value(word, flag, given, flags):
                    return wrong
                del words[: 0 if equals else 1]
        elif word in tasks:
            task = tasks[word]
        elif word.startswith("-"):
            of = f"{task.name} has no flag" if task else "There is no flag"
            return f"{of} {word}.", nearest(word, flags)
        else:
            return f"There is no task {word}.", nearest(word, tasks)
    return None


def _wrong_value(word: str, flag: Any, given: list[str], flags: Iterable[str]) -> tuple[str, str] | None:
    if flag.optional:
        return None
    if not given or given[0] in flags:
        return f"{word} needs a value, and none follows it.", f"write {word} {flag.name.upper()}"
    if flag.kind is int and not given[0].lstrip("-").isdigit():
        return f"{word} takes a whole number, not {given[0]!r}.", f"write {word} {flag.default or 10}, say"
    return None
