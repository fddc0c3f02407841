"""The JSON documents are what docs/json.md says: every one that a test reads is held to its schema."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.skipping import unavailable

FOLDER = Path(__file__).resolve().parents[2] / "docs/schemas"
SCHEMAS = {
    "deploy": "deployment",
    "rollback": "deployment",
    "cache-sync": "deployment",
    "releases": "releases",
    "unlock": "unlock",
    "diagnose": "diagnose",
}


def check(words: Sequence[str], document: Any) -> None:
    """Raise AssertionError where a document is not what these words of a command line are to give."""
    names = [SCHEMAS[word] for word in words if word in SCHEMAS]
    name = names[0] if names else "usage"
    problems = problems_of(name, document)
    if problems and not (document.get("exit_code") == 2 and not problems_of("usage", document)):
        raise AssertionError(f"not as docs/schemas/{name}.json says: " + "\n".join(problems))


def problems_of(name: str, document: Any) -> list[str]:
    """What is wrong with a document, by a schema of docs/schemas; so is a key that this does not name."""
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(document)]


@functools.cache
def validator(name: str) -> Any:
    """A validator for one schema, with the others at hand."""
    if importlib.util.find_spec("jsonschema") is None:
        unavailable("jsonschema is not installed: run `uv sync`")
    import jsonschema
    from referencing import Registry, Resource

    found = {path.name: _closed(json.loads(path.read_text())) for path in FOLDER.glob("*.json")}
    registry = Registry().with_resources((n, Resource.from_contents(s)) for n, s in found.items())
    schema = found[f"{name}.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _closed(schema: Any) -> Any:
    """The schema, taking no key that it does not name: so no key goes undocumented."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
