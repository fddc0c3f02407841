"""Manifests, ids and records: what holds for all of them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.errors import NoSuchRelease
from fabfile.on_host.layout import RELEASE_ID, next_id, sort_key
from fabfile.on_host.manifest import Entry, Manifest, escape, unescape
from fabfile.on_host.records import (
    BAD,
    BUILDING,
    FAILED,
    GOOD,
    LIVE,
    READY,
    Record,
    rollback_target,
    to_remove,
)

# Names as they come from a disk: any bytes but NUL, and / between them.
raw_names = st.binary(min_size=1, max_size=12).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"_"))
names = raw_names.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
awkward = st.sampled_from(["\\", "\t", "\n", "\r", "\\n", "\\\\", "\\t\\", "a\\", " ", "\x1e", "\udcff", "é"])
# Through bytes once more: two surrogates side by side may be a character.
texts = (
    st.lists(names | awkward, min_size=1, max_size=4)
    .map(lambda parts: "".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"))
    .filter(lambda name: name not in (".", ".."))
)
paths = st.lists(texts, min_size=1, max_size=3).map("/".join)
digests = st.sampled_from(["0" * 64, "1" * 64, "2" * 64])
modes = st.sampled_from([0o600, 0o644, 0o755, 0o4755])

entries = st.one_of(
    st.builds(Entry, paths, st.just("file"), modes, st.integers(0, 9), st.integers(0, 2**33), digests),
    st.builds(Entry, paths, st.just("dir"), modes, st.just(0), st.integers(0, 2**33), st.just("")),
    st.builds(Entry, paths, st.just("link"), st.just(0o777), st.just(0), st.integers(0, 2**33), texts),
)


def possible(found: list[Entry]) -> Manifest:
    """Those that can be in one tree: nothing is below what is no directory."""
    solid = {entry.path for entry in found if entry.kind != "dir"}
    return Manifest(e for e in found if not any(p in solid for p in map(str, PurePosixPath(e.path).parents)))


manifests = st.lists(entries, max_size=12).map(possible)


@given(manifests)
def test_a_manifest_survives_its_way_to_the_host(manifest: Manifest) -> None:
    again = Manifest.loads(manifest.dumps())
    assert again.entries == manifest.entries
    assert again.dumps() == manifest.dumps()
    assert again.revision() == manifest.revision()
    assert not manifest.difference(again)


@given(manifests, manifests)
def test_a_manifest_is_read_the_same_beside_one_that_is_like_it(manifest: Manifest, other: Manifest) -> None:
    like = Manifest([*other, *list(manifest)[::2]])
    again = Manifest.loads(manifest.dumps(), like)
    assert again.entries == manifest.entries
    assert again.dumps() == manifest.dumps()


@given(manifests, st.data())
def test_a_cut_manifest_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    whole = manifest.dumps()
    end = data.draw(st.integers(0, len(whole) - 1))
    if whole[:end].endswith(b"\n"):
        return  # cut between lines: the rename on the host is what rules this out
    with pytest.raises(ValueError, match=r"."):
        Manifest.loads(whole[:end])


@given(texts)
def test_escaping_is_undone(text: str) -> None:
    escaped = escape(text)
    assert unescape(escaped) == text
    assert not set(escaped) & {"\t", "\n", "\r"}


@given(texts, texts)
def test_escaping_keeps_texts_apart(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(manifests, manifests, st.sets(paths, max_size=3))
def test_a_difference_that_is_applied_gives_the_target(old: Manifest, new: Manifest, doubt: set[str]) -> None:
    difference = old.difference(new, doubt)
    held = dict(old.entries)
    for path in doubt:  # anything may stand there by now
        held[path] = Entry(path, "file", 0o1, 1, 1, "spoilt")
    for entry in difference.deleted:
        held.pop(entry.path, None)
    held.update({entry.path: entry for entry in difference.written})
    assert held.keys() == new.entries.keys()
    assert all(held[path].same_as(new.entries[path]) for path in held)
    # And nothing is done without need.
    for entry in difference.written:
        before = old.get(entry.path)
        assert entry.path in doubt or before is None or not before.same_as(entry)
    gone = {entry.path for entry in difference.deleted}
    assert gone == (old.entries.keys() | doubt) - new.entries.keys()
    assert [e.path for e in difference.written] == sorted(e.path for e in difference.written)
    assert difference.size == sum(e.size for e in difference.written if e.kind == "file")


@given(manifests)
def test_times_do_not_count(manifest: Manifest) -> None:
    later = Manifest(Entry(e.path, e.kind, e.mode, e.size, e.mtime + 1, e.content) for e in manifest)
    assert not manifest.difference(later)
    assert manifest.revision() == later.revision()


# -- ids -----------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
moments = st.integers(-100, 100).map(lambda seconds: NOW + timedelta(seconds=seconds))
ids = st.builds(
    lambda moment, count: moment.strftime("%Y%m%d%H%M%S") + (f"-{count}" if count > 1 else ""),
    moments,
    st.integers(1, 12),
)


@given(st.sets(ids | st.sampled_from(["by-hand", "2026", "20261122120000-0", "20261122120000-x"])), moments)
def test_a_new_id_is_later_than_all(taken: set[str], now: datetime) -> None:
    new = next_id(taken, now)
    assert RELEASE_ID.fullmatch(new)
    assert new not in taken
    assert all(sort_key(new) > sort_key(other) for other in taken)
    assert new >= now.strftime("%Y%m%d%H%M%S")


@given(st.lists(moments, min_size=1, max_size=15))
def test_ids_sort_in_the_order_they_were_made(clock: list[datetime]) -> None:
    made: list[str] = []
    for now in clock:  # a clock may stand still, and go back
        made.append(next_id(set(made), now))
    assert sorted(made, key=sort_key) == made
    assert len(set(made)) == len(made)


def test_ids_of_one_second() -> None:
    made: list[str] = []
    for _ in range(11):
        made.append(next_id(set(made), NOW))
    assert made[:3] == ["20261122120000", "20261122120000-2", "20261122120000-3"]
    assert sorted(made, key=sort_key)[-2:] == ["20261122120000-10", "20261122120000-11"]


# -- which to go back to, which to remove --------------------------------------------------------------

states = st.sampled_from([BUILDING, READY, LIVE, GOOD, FAILED, BAD])
histories = st.lists(st.tuples(states, st.booleans()), max_size=12).map(
    lambda rows: [
        Record(f"20261122120000-{n}" if n > 1 else "20261122120000", state, "", "", "", left=left)
        for n, (state, left) in enumerate(rows, 1)
    ]
)


@given(histories, st.data())
def test_a_rollback_goes_to_the_newest_good_one_before(history: list[Record], data: st.DataObject) -> None:
    records = {r.id: r for r in sorted(history, key=lambda r: r.id)}
    live = data.draw(st.sampled_from([*records, None]))
    before = [r for r in history if live is None or sort_key(r.id) < sort_key(live)]
    fit = [r for r in before if r.state == GOOD and not r.left]
    if fit:
        assert rollback_target(records, live, None) == fit[-1]
    else:
        with pytest.raises(NoSuchRelease):
            rollback_target(records, live, None)


@given(histories, st.data())
def test_a_rollback_by_name_goes_to_good_ones_only(history: list[Record], data: st.DataObject) -> None:
    records = {r.id: r for r in history}
    live = data.draw(st.sampled_from([*records, None]))
    wanted = data.draw(st.sampled_from([*records, "20200101000000", "", "../etc"]))
    found = records.get(wanted)
    if found and found.state == GOOD and wanted != live:
        assert rollback_target(records, live, wanted) == found
    else:
        with pytest.raises(NoSuchRelease):
            rollback_target(records, live, wanted)


@given(histories, st.integers(1, 6), st.data())
def test_retention_keeps_what_it_must(history: list[Record], keep: int, data: st.DataObject) -> None:
    if not history:
        return
    records = {r.id: r for r in history}
    live = data.draw(st.sampled_from([*records]))
    before = data.draw(st.sampled_from([*records, None]))
    doomed = {r.id for r in to_remove(records, keep, live, before)}
    assert live not in doomed
    assert before not in doomed
    good = [r.id for r in history if r.state in (GOOD, LIVE)]
    assert not doomed & set(good[-keep:])  # the newest good ones stay, and only good ones count
    assert doomed >= set(good[:-keep]) - {live, before}
    assert doomed >= {r.id for r in history if r.state not in (GOOD, LIVE)} - {live, before}
    assert doomed <= set(records)


FILE = f"file\t644\t5\t1\t{'0' * 64}\t"
BAD_LINES = {
    "outside": f"{FILE}../x",
    "outside, below": f"{FILE}a/../../x",
    "absolute": f"{FILE}/etc/passwd",
    "dot": f"{FILE}./a",
    "empty part": f"{FILE}a//b",
    "no path": FILE,
    "slash": f"{FILE}a/",
    "NUL": f"{FILE}a\0b",
    "kind": FILE.replace("file", "pipe") + "a",
    "negative": FILE.replace("\t5", "\t-5") + "a",
    "huge": FILE.replace("\t5", "\t" + "9" * 30) + "a",
    "mode": FILE.replace("644", "99999") + "a",
    "digest": FILE.replace("0" * 64, "x") + "a",
    "no digest": FILE.replace("0" * 64, "") + "a",
    "fields": "file\t644\ta",
    "more fields": f"{FILE}a\tb",
    "escaped": f"{FILE}a\\n/../b",
    "long": FILE + "a" * 9000,
    "blank": "",
    "no target": "link\t777\t0\t1\t\ta",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_line_that_is_none_makes_it_no_manifest(line: str) -> None:
    good = Manifest([Entry("a-file", "file", 0o644, 5, 1, "0" * 64)])
    assert len(Manifest.loads(good.dumps())) == 1
    for like in (None, good):
        with pytest.raises(ValueError):
            Manifest.loads(good.dumps().replace(b"\t1\n", b"\t2\n", 1) + line.encode() + b"\n", like)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "switchover manifest 1\t0",
        "switchover manifest 1\t-1\n",
        "switchover manifest 1\t01\n",
        "switchover manifest 1\t99999999\n",
        f"switchover manifest 1\t2\n{FILE}a\n",
        f"switchover manifest 1\t1\n{FILE}a",
        f"switchover manifest 1\t2\n{FILE}a\n{FILE}a\n",
        f"switchover manifest 1\t1\n{FILE}a\n{FILE}b\n",
        f"switchover manifest 1\t1\n{FILE}a\n{FILE}a\n",
        f"switchover manifest 1\t2\n{FILE}a\n{FILE}a/b\n",
        f"switchover manifest 1\t2\nlink\t777\t0\t1\tx\ta\n{FILE}a/b/c\n",
    ],
)
def test_a_text_that_is_no_whole_manifest(text: str) -> None:
    with pytest.raises(ValueError):
        Manifest.loads(text.encode())


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from(list(BAD_LINES.values())), max_size=4).map(
        lambda lines: (
            f"switchover manifest 1\t{len(lines)}\n".encode() + "".join(f"{x}\n" for x in lines).encode()
        )
    )
)
def test_any_text_is_a_manifest_or_none(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        for path in Manifest.loads(text).entries:
            assert not path.startswith("/") and ".." not in path.split("/") and "" not in path.split("/")


def test_a_path_in_doubt_is_written_again_though_it_seems_the_same() -> None:
    """An upload was cut: the manifest says what it was before, the file may be anything."""
    same = Manifest([Entry("a", "file", 0o644, 1, 0, "x"), Entry("b", "file", 0o644, 1, 0, "x")])
    assert [entry.path for entry in same.difference(same, {"a"}).written] == ["a"]
    assert not same.difference(same)
