"""The JSON Schema of config.yaml: what is documented passes, what is misspelt does not, in an editor too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from fabfile.errors import ConfigError
from fabfile.settings import known_keys, load
from fabfile.settings.schema import schema
from tests.support.fab import REPOSITORY

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def documented() -> Iterator[Any]:
    """Every configuration that the documentation shows."""
    yield pytest.param((REPOSITORY / "config.example.yaml").read_text(), id="config.example.yaml")
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        shown = [block for block in blocks if set(_read(block)) <= {key.partition(".")[0] for key in KEYS}]
        for number, block in enumerate(shown):
            yield pytest.param(block, id=f"{page.name}-{number}")


KEYS = known_keys()


def _read(text: str) -> dict[str, Any]:
    found = YAML(typ="safe", pure=True).load(text)
    return found if isinstance(found, dict) else {}


@pytest.mark.parametrize("text", list(documented()))
def test_what_is_documented_passes(text: str, tmp_path: Path) -> None:
    VALIDATOR.validate(_read(text))
    (tmp_path / "config.yaml").write_text(text)
    load(tmp_path / "config.yaml")


RIGHT = [
    "source: {path: null, git: .}",
    "hosts: [web1, 'u@[::1]:22', {host: web2, port: 22, identity: ~/.ssh/id}]",
    "health: {url: http://x/}\nenvironments: {a: {health: null}, b: {health: {timeout: 5}}, c: {}}",
    "source: {git: .}\nenvironments: {a: {source: {ref: main}}, b: {source: {path: build}}}",
    "ssh: {connect_timeout: 0.5, host_keys: null}",
    "hooks: {before_switch: ['a\n  b']}",
    "environments: {a: {confirm: {within: 60}, hosts: [{host: web1}]}}",
    "health: {url: 'HTTPS://x/'}",
]
WRONG = [
    "deploy_too: /srv/x",
    "deploy_to: srv/x",
    "deploy_to: /",
    "keep_releases: 0",
    "keep_releases: '5'",
    "keep_releases: true",
    "strategy: caches",
    "application: a b",
    "application: ..",
    "source: {path: a, git: b}",
    "source: {}",
    "source: {path: a, ref: main}",
    "source: a",
    "shared: {dir: [a]}",
    "shared: {dirs: a}",
    "shared: {dirs: [/a]}",
    "hosts: [{hosts: a}]",
    "hosts: [{user: a}]",
    "hosts: [{host: a, port: 0}]",
    "hosts: web1",
    "ssh: {keepalive: 15}",
    "ssh: {keepalive: {count: 1.5}}",
    "hooks: {before: [a]}",
    "hooks: {before_switch: a}",
    "hooks: {before_switch: ['']}",
    "health: {expect_status: 200}",
    "health: {url: ftp://x/}",
    "environments: {a: {keep_release: 2}}",
    "environments: {a: {environments: {}}}",
    "environments: {a: {hosts: [{user: b}]}}",
    "confirm: {}",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_right_passes(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    load(tmp_path / "config.yaml")
    VALIDATOR.validate(_read(text))


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_does_not(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load(tmp_path / "config.yaml")
    assert not VALIDATOR.is_valid(_read(text))


def test_every_key_is_in_it() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == {key for key in KEYS if "." not in key}
    sections = json.dumps(SCHEMA["$defs"])
    assert [key for key in KEYS if f'"{key.rpartition(".")[2]}"' not in sections + json.dumps(SCHEMA)] == []
