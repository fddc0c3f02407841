"""config.yaml as a JSON Schema, for editors: keys, kinds of values, and ranges."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import TypeAdapter

from .model import Keys

Json = dict[str, Any]


def schema() -> Json:
    """The schema (draft 2020-12). What stands in a section of `environments` is laid over the rest, so that
    nothing is required there.
    """
    found = TypeAdapter(Keys).json_schema()
    sections: Json = found.pop("$defs")
    partial = {name: _partial(section) for name, section in sections.items() if name != "HostEntry"}
    sections["Source"] |= {
        "oneOf": [{"required": [key], "properties": {key: {"type": "string"}}} for key in ("path", "git")],
        "dependentRequired": {"ref": ["git"], "subdir": ["git"]},
    }
    partial["Environment"] = _partial(found)
    sections |= {f"{name}{_PARTIAL}": section for name, section in partial.items()}
    environments = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/Environment{_PARTIAL}"}}
    found["properties"]["environments"] = environments
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "config.yaml of Switchover",
        "$defs": sections,
    }


_PARTIAL = "-over"


def _partial(section: Json) -> Json:
    """The same section where nothing is required, and whose own sections are such, too."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items() if key not in ("required", "default")}
        if isinstance(value, list):
            return [walk(each) for each in value]
        if isinstance(value, str) and value.startswith("#/$defs/") and value != "#/$defs/HostEntry":
            return value + _PARTIAL
        return value

    return dict(walk(copy.deepcopy(section)))
