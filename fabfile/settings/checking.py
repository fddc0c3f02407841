"""Merging, the rules between keys, and every mistake in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .mistakes import UNREADABLE, Layer, Loc, Mistake, did_you_mean, dotted, found
from .model import HostEntry, HostItem, Keys, known_keys
from .values import relative

_KEYS = TypeAdapter(Keys)
_HOST = TypeAdapter[HostEntry](HostItem)

# ── Merging ───────────────────────────────────────────────────────────────────────────────────────────


def merge(base: Layer, over: Layer) -> Layer:
    """`over` laid over `base`: sections key by key, all else replaced.

    Each value keeps the place where it was given, so a mistake of `base` reads the same in what is
    laid over it, and is reported once.
    """
    merged = Layer(dict(base.data), dict(base.places))

    def lay(data: dict[str, Any], given: Mapping[str, Any], loc: Loc) -> None:
        for key, value in given.items():
            here = (*loc, key)
            if _is_merged(here, data.get(key), value):
                data[key] = dict(data[key])
                lay(data[key], value, here)
                continue
            data[key] = value
            for inside in [each for each in merged.places if each[: len(here)] == here]:
                del merged.places[inside]
            merged.places[here] = over.place(here)
            merged.places.update({each: at for each, at in over.places.items() if each[: len(here)] == here})

    lay(merged.data, over.data, ())
    return merged


def _is_merged(loc: Loc, old: object, new: object) -> bool:
    """Sections are; not lists, not what is unknown, and not a source that names path or git."""
    if not isinstance(old, dict) or not isinstance(new, dict) or not _keys_at(loc):
        return False
    return loc != ("source",) or not ("path" in new or "git" in new)


def _keys_at(loc: Loc) -> list[str]:
    """The names that are known in the section at this place."""
    section = re.sub(r"\[\d+\]", "[]", dotted(loc))
    parts = [key.rpartition(".") for key in known_keys()]
    return [name for home, _, name in parts if home == section]


# ── Checking ──────────────────────────────────────────────────────────────────────────────────────────


def check(layer: Layer, base_dir: Path) -> tuple[Keys | None, list[Mistake]]:
    """The layer as keys, or None and every mistake in it."""
    problems = [*_source_rules(layer.data), *_shared_rules(layer.data), *_host_rules(layer.data)]
    keys = None
    try:
        keys = _KEYS.validate_python(layer.data, context={"base_dir": base_dir})
    except ValidationError as error:
        for each in error.errors(include_url=False):
            if each["input"] is not UNREADABLE:
                problems.append((each["loc"], _say(dict(each), layer.place(each["loc"]).text)))
    return keys, [layer.place(loc).mistake(text) for loc, text in problems]


def _source_rules(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Exactly one of path and git; ref and subdir only with git."""
    source = data.get("source")
    if not isinstance(source, dict):
        return
    given = [key for key in ("path", "git") if source.get(key) is not None]
    if len(given) != 1:
        both = "both path and git" if given else "neither path nor git"
        yield ("source",), f"found {both}; allowed: exactly one of path and git"
    if given == ["path"]:
        for key in ("ref", "subdir"):
            if source.get(key) is not None:
                yield ("source", key), f"found next to path; allowed: {key} only with git"


def _shared_rules(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """No shared path twice, none inside another."""
    shared = data.get("shared")
    if not isinstance(shared, dict):
        return
    earlier: list[tuple[str, Loc]] = []
    for key in ("dirs", "files"):
        for n, path in enumerate(_list(shared.get(key))):
            loc = ("shared", key, n)
            try:
                relative(path)
            except ValueError:
                continue  # the model reports it
            for other, other_loc in earlier:
                if relation := _relation(path, other):
                    said = f'found "{path}", which {relation} {dotted(other_loc)} ("{other}")'
                    yield loc, f"{said}; allowed: separate paths"
                    break
            earlier.append((path, loc))


def _relation(path: str, other: str) -> str | None:
    if path == other:
        return "is the same as"
    if path.startswith(other + "/"):
        return "lies inside"
    return "holds" if other.startswith(path + "/") else None


def _host_rules(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """No machine twice: the same host and port, whoever logs in."""
    earlier: dict[tuple[str, int], Loc] = {}
    for n, value in enumerate(_list(data.get("hosts"))):
        try:
            entry = _HOST.validate_python(value)
        except ValidationError:
            continue  # the model reports it
        machine = (entry.host.lower(), entry.port or 22)
        if machine in earlier:
            other = dotted(earlier[machine])
            yield ("hosts", n), f"found {entry.host} again; {other} is the same host; allowed: each host once"
        earlier.setdefault(machine, ("hosts", n))


def _list(value: object) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, list | tuple) else []


# ── Plain words ───────────────────────────────────────────────────────────────────────────────────────


def _say(error: Mapping[str, Any], text: str | None) -> str:
    """One of pydantic's errors as `what was found; what is allowed`. `text`: the value as written."""
    kind, loc, value = error["type"], error["loc"], error["input"]
    if kind == "missing":
        return "found nothing; this key is required here"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key{_instead_of(loc)}"
    if kind == "value_error":
        allowed = str(error["ctx"]["error"])
    elif kind == "literal_error":
        *most, last = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        near = did_you_mean(value, [*most, last]) if isinstance(value, str) else ""
        allowed = f"{', '.join(most)} or {last}{near}"
    elif kind == "tuple_type" and isinstance(value, str):
        quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        allowed = f"a list; write a list: [{quoted}]"
    elif kind == "tuple_type":
        allowed = "a list; write [] for an empty one"
    elif kind in ("dataclass_type", "dataclass_exact_type"):
        allowed = f"a mapping of {', '.join(_keys_at(loc))}"
    else:
        allowed = f"another kind of value ({kind})"
    return f"{found(value, text)}; allowed: {allowed}"


def _instead_of(loc: Loc) -> str:
    """An unknown key's neighbour by name, else where a key of this name belongs, else what is known."""
    name, known = str(loc[-1]), _keys_at(loc[:-1])
    homes = [key for key in known_keys() if key.rpartition(".")[2] == name]
    elsewhere = f"; did you mean '{homes[0]}'?" if homes else f"; known here: {', '.join(known)}"
    return did_you_mean(name, known) or elsewhere
