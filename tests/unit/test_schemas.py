"""docs/json.md and its schemas say what is written; tests/support/schemas.py holds all documents to them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from fabfile.diagnosis.finding import CATALOGUE
from fabfile.errors import HookFailed, Locked
from fabfile.fleet import Holding, Listing
from fabfile.on_host.lock import Owner
from fabfile.on_host.manifest import Difference, Entry
from fabfile.on_host.records import STATES, Record
from fabfile.report import documents
from fabfile.results import HostResult, Outcome, ServedAgain
from tests.support.fab import REPOSITORY
from tests.support.schemas import FOLDER, SCHEMAS, check, problems_of

NEW, OLD = "20261125033011", "20261124120000-2"
PAGE = (REPOSITORY / "docs/json.md").read_text()


def switched_back() -> Any:
    host = HostResult(
        "web1", ok=False, release=NEW, previous=OLD, live=OLD, strategy="cache", transfer="stream",
        copy="reflink", again=ServedAgain("ok", "failed"), phases={"switch": 0.1},
        error=HookFailed("It failed.", "why", "try"), plan=Difference([Entry("a", "file", 0o644)]),
        drift={"missing": ["a"], "altered": [], "extra": []},
    )  # fmt: skip
    assert host.error
    host.error.step = "health"
    return documents.deployment(Outcome(3, host.error, [host], [f"web1: {OLD} is live again"]))


def listed() -> Any:
    found = [Record(OLD, state, "tree-1", "2026-11-25T03:30:11+00:00", "me@here", 5) for state in STATES]
    return documents.releases(Outcome(), [Listing("web1", OLD, found), Listing("web2")])


def locked() -> Any:
    owner = Owner("me", "here", 7, "2026-11-25T03:30:11+00:00", "fab deploy")
    held = [Holding("web1", held=True, owner=owner), Holding("web2", error=Locked("no", "", ""))]
    return documents.locks(Outcome(5, held[1].error), held)


DOCUMENTS = {"deploy": switched_back, "releases": listed, "unlock": locked}


@pytest.mark.parametrize("command", DOCUMENTS)
def test_what_is_written_is_what_is_documented(command: str) -> None:
    check((command, "--json"), DOCUMENTS[command]())


@pytest.mark.parametrize("command", DOCUMENTS)
def test_what_is_not_documented_is_noticed(command: str) -> None:
    """A key more or less, or another kind of value, wherever it is."""
    for path in places(DOCUMENTS[command]()):
        for change in (lose, add, replace):
            document = DOCUMENTS[command]()
            if change(document, path):
                assert problems_of(SCHEMAS[command], document), (path, change.__name__)


OPTIONAL = {"switched_back", "plan", "drift"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key of every object, as a path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in pairs:
        found += [(*path, key), *places(inner, (*path, key))]
    return found


def parent(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def lose(document: Any, path: tuple[Any, ...]) -> bool:
    if isinstance(path[-1], int) or path[-1] in OPTIONAL or "phases" in path:
        return False
    del parent(document, path)[path[-1]]
    return True


def add(document: Any, path: tuple[Any, ...]) -> bool:
    if isinstance(path[-1], int) or "phases" in path:
        return False
    parent(document, path)["undocumented"] = 1
    return True


def replace(document: Any, path: tuple[Any, ...]) -> bool:
    parent(document, path)[path[-1]] = {"of": "another kind"}
    return True


def test_an_error_of_usage_may_stand_for_any_document() -> None:
    document = documents.deployment(Outcome(2, HookFailed("It is wrong.", "why", "try")))
    for command in (*SCHEMAS, "--nonsense"):
        check((command,), document)
    with pytest.raises(AssertionError):
        check(("releases",), {**document, "exit_code": 1, "error": None, "hosts": [{"host": "web1"}]})


def test_the_page_names_every_schema_and_every_finding() -> None:
    assert set(re.findall(r"\(schemas/([\w.]+)\)", PAGE)) == {path.name for path in FOLDER.iterdir()}
    listed = PAGE.partition("<!-- ids: begin -->")[2].partition("<!-- ids: end -->")[0]
    assert set(re.findall(r"`([\w-]+)`", listed)) == set(CATALOGUE)


def test_the_example_of_the_page_is_one() -> None:
    example = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    check(("deploy",), example)
