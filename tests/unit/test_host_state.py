"""What a host says about its deployments, read strictly: the scripts run here by sh, and what they print, or
anything else, is parsed. No host is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import string
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.errors import AnswerNotUnderstood, SwitchoverError
from fabfile.on_host import records, state
from fabfile.on_host.layout import Layout, next_id
from fabfile.on_host.records import Record
from fabfile.remote.files import parse_space
from fabfile.remote.shell import Result
from tests.support import local

SHELLS = [[*words.split(), "-c"] for name, words in local.SHELLS.items() if shutil.which(name)]
FIRST, SECOND, THIRD = "20200101000000", "20200101000000-2", "20200102000000"
GOOD = Record(FIRST, "good", "abc", "2020-01-01T00:00:00+00:00", "me@here", 5, "cache", ["storage"])


def run(script: str, shell: list[str] = SHELLS[0]) -> Result:
    """A script, as the host would run it."""
    done = subprocess.run(
        [*shell, "LC_ALL=C; export LC_ALL; " + script], capture_output=True, timeout=30, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def read(root: Path, shell: list[str] = SHELLS[0], shared: tuple[str, ...] = ()) -> state.State:
    """The state of a deploy_to here."""
    layout = Layout(str(root))
    asking = state.asking(layout, shared)
    return state.parse(run(asking.script, shell), asking.what, layout)


def plant(root: Path, folder: str | bytes, text: str | bytes, *, tree: bool = True) -> None:
    """A record, whatever it says, in a folder of any name, and the release's directory."""
    name = os.fsencode(folder)
    place = os.fsencode(root) + b"/.switchover/releases/" + name
    os.makedirs(place)  # noqa: PTH103  (bytes)
    if tree:
        os.makedirs(os.fsencode(root) + b"/releases/" + name)  # noqa: PTH103
    Path(os.fsdecode(place), "record.json").write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A deploy_to with one good release, live."""
    plant(tmp_path, FIRST, GOOD.dumps() + "\n")
    (tmp_path / "current").symlink_to(f"releases/{FIRST}")
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_reads_what_it_wrote(root: Path, shell: list[str]) -> None:
    (root / "shared/it's").mkdir(parents=True)
    for name in ("incoming/tree-0123", "jobs/abc.build-12345678-1"):
        (root / ".switchover" / name).mkdir(parents=True)
    found = read(root, shell, ("it's", "missing"))
    assert found.records == {FIRST: GOOD} and found.live == FIRST and found.leads
    assert found.directories == {FIRST} and not found.others and not found.damaged and not found.odd
    assert found.shared_present == {"it's"}
    assert found.incoming == {"tree-0123"} and found.jobs == {"abc.build-12345678-1"}
    assert found.deploy_to_kind == "dir" and found.own_kind == "dir"
    assert found.space is not None and found.space.free > 0


def test_reads_an_empty_host(tmp_path: Path) -> None:
    found = read(tmp_path / "not/there")
    assert (found.current_kind, found.deploy_to_kind, found.own_kind) == ("none", "none", "none")
    assert found.live is None and not found.records and found.space is not None


BAD_RECORDS = {
    "null": "null",
    "list": "[]",
    "number": "5",
    "text": '"x"',
    "nothing": "",
    "half": GOOD.dumps()[:60],
    "deep": "[" * 60_000,
    "deep object": '{"a":' * 12_000,
    "two lines": GOOD.dumps() + "\n\n",
    "not UTF-8": b'{"id": "\xff"}',
    "NUL": GOOD.dumps().encode() + b"\0",
    "large": " " * 70_000 + GOOD.dumps(),
    "twice": GOOD.dumps()[:-1] + f', "id": "{FIRST}"}}',
    "NaN": GOOD.dumps().replace("5", "NaN", 1),
    "outside": replace(GOOD, id="../../victim").dumps(),
    "of another": replace(GOOD, id=SECOND).dumps(),
    "unknown state": replace(GOOD, state="great").dumps(),
    "no state": json.dumps({"id": FIRST}),
    "negative": replace(GOOD, bytes=-1).dumps(),
    "true bytes": replace(GOOD, bytes=True).dumps(),
    "huge": GOOD.dumps().replace('"bytes": 5', '"bytes": ' + "9" * 5000),
    "shared": replace(GOOD, shared=["../x"]).dumps(),
    "shared text": replace(GOOD, shared="x").dumps(),
    "absolute": replace(GOOD, shared=["/etc"]).dumps(),  # type: ignore[arg-type]
    "escape": replace(GOOD, revision="\x1b]52;c;x\a").dumps(),
    "long": replace(GOOD, deployed_by="x" * 5000).dumps(),
    "seal": replace(GOOD, seal="$(id)").dumps(),
    "manifest": replace(GOOD, manifest="../../x").dumps(),
    "before": replace(GOOD, before="").dumps(),
    "left": replace(GOOD, left=1).dumps(),  # type: ignore[arg-type]
}


@pytest.mark.promise("ids")
@pytest.mark.parametrize("text", BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_damaged_record_is_named_and_blocks_no_other(tmp_path: Path, text: str | bytes) -> None:
    plant(tmp_path, FIRST, text)
    plant(tmp_path, THIRD, replace(GOOD, id=THIRD).dumps() + "\n")
    found = read(tmp_path)
    assert found.damaged == (FIRST,)
    assert set(found.records) == {THIRD}
    assert found.taken == {FIRST, THIRD}


@pytest.mark.promise("state")
def test_what_is_no_plain_file_is_never_opened(tmp_path: Path) -> None:
    for name in (FIRST, SECOND, THIRD):
        (tmp_path / ".switchover/releases" / name).mkdir(parents=True)
    (tmp_path / "elsewhere").write_text(GOOD.dumps())
    (tmp_path / ".switchover/releases" / FIRST / "record.json").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / ".switchover/releases" / SECOND / "record.json")
    (tmp_path / ".switchover/releases" / THIRD / "record.json").symlink_to("/dev/zero")
    found = read(tmp_path)
    assert found.damaged == (FIRST, SECOND, THIRD) and not found.records


@pytest.mark.promise("ids")
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    "name",
    [
        f"x\nrecord\t{THIRD}\t" + '{"state": "good"}',
        f"{THIRD}\nrelease\t{SECOND}\tdir",
        f"{THIRD}\t",
        "a\tb",
        b"\xff\xfe",
        "..x",
        "0",
        "2020010100000",
        "202001010000000",
        f"{FIRST}-0",
        f"{FIRST}-1",
        f"{FIRST}-02",
        f"{FIRST}-2-3",
        f"{FIRST}-",
        f"-{FIRST}",
        f"{FIRST}-1234567890",
        "2020-010100000",
        "٢٠٢٠٠١٠١٠٠٠٠٠٠",
        "*",
        "$(id)",
    ],
)
def test_a_name_that_is_no_id_forges_nothing(tmp_path: Path, shell: list[str], name: str | bytes) -> None:
    plant(tmp_path, name, GOOD.dumps())
    for kind in ("incoming", "jobs"):
        os.makedirs(os.fsencode(tmp_path) + f"/.switchover/{kind}/".encode() + os.fsencode(name))  # noqa: PTH103
    found = read(tmp_path, shell)
    assert not found.records and not found.directories and not found.damaged
    assert (found.current_kind, found.deploy_to_kind) == ("none", "dir")
    assert not any("/" in entry or "\n" in entry for entry in found.incoming | found.jobs)
    unseen = os.fsencode(name).startswith(b".") or (shell[0] == "yash" and isinstance(name, bytes))
    assert any(".switchover/releases" in told for told in found.odd) or unseen


TARGETS = [
    f"releases/{FIRST}\nrecord\t{THIRD}\tx",
    "releases/../../victim",
    "../victim",
    f"releases/{FIRST}/..",
    "a\tb",
    f"releases//{FIRST}",
    f"releases/{FIRST}//",
    "/",
    "x\n",
    "\n",
    f"other/{FIRST}",
    FIRST,
    f"./releases/{FIRST}",
    f"releases/{FIRST}-1",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_no_release_is_kept_as_it_is(tmp_path: Path, target: str) -> None:
    (tmp_path / "current").symlink_to(target)
    plant(tmp_path, FIRST, GOOD.dumps())
    found = read(tmp_path)
    assert found.target == target
    assert found.live is None and "live" not in found.manifests and found.shown == target


@pytest.mark.parametrize("form", ["releases/{}", "releases/{}/", "{root}/releases/{}", "{root}/releases/{}/"])
def test_each_spelling_of_the_live_release(tmp_path: Path, form: str) -> None:
    (tmp_path / "current").symlink_to(form.format(FIRST, root=tmp_path))
    plant(tmp_path, FIRST, GOOD.dumps())
    (tmp_path / ".switchover/releases" / FIRST / "manifest").write_text("x")
    found = read(tmp_path)
    assert found.live == FIRST and found.leads and "live" in found.manifests


def test_paths_in_doubt_that_lead_outside_are_no_reason_to_trust_the_rest(root: Path) -> None:
    kept = root / ".switchover/releases" / FIRST
    (kept / "manifest").write_text("x")
    (kept / "touched").write_text("a\\tb\nplain\n")
    assert read(root).manifests["live"].doubtful == {"a\tb", "plain"}
    (kept / "touched").write_text("plain\n../../victim\n")
    assert read(root).manifests["live"] == state.StoredManifest()


def test_a_link_in_the_place_of_an_id_is_no_release(root: Path, tmp_path: Path) -> None:
    (root / "releases" / SECOND).symlink_to("/etc")
    (root / "releases" / THIRD).write_text("a file")
    found = read(root)
    assert found.directories == {FIRST} and found.others == {SECOND, THIRD}
    assert next_id(set(found.taken)) not in found.taken


ANSWERS = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                "root\tdir",
                "own\tdir",
                "current\tlink\tyes",
                f"record\t{FIRST}\t{{}}",
                f"recorded\t{FIRST}",
                "odd\tx\t1",
                f"release\t{FIRST}\tdir",
                "release\t../..\tdir",
                "incoming\t..",
                "jobs\ta\n",
                "df\tx",
                "manifest\tlive\tx",
                "touched\tlive\t/x",
                "current\tlink\tyes\tx",
                "root\tnowhere",
                "\0",
                "recorded\t../../x",
                "odd\tx\t-1",
            ]
        )
    ).map(
        lambda rows: (
            "0123456789abcdef\n"
            + "".join(f"{r}\n" for r in rows)
            + "0123456789abcdefreleases/x0123456789abcdef\n"
        ).encode()
    ),
)


@pytest.mark.promise("state")
@given(ANSWERS)
@settings(max_examples=300, deadline=None)
def test_any_answer_is_understood_or_refused(said: bytes) -> None:
    """No exception but ours, and no id, name or path that is not one."""
    try:
        found = state.parse(Result(0, said, b""), "Reading", Layout("/srv/shop"))
    except SwitchoverError:
        return
    for name in (*found.directories, *found.others, *found.records, *found.damaged, *found.incoming):
        assert "/" not in name and ".." not in name and name.isprintable()


@pytest.mark.promise("state")
@pytest.mark.parametrize("missing", ["root", "own", "current", "end", "begin"])
def test_a_row_that_is_missing_is_no_default(root: Path, missing: str) -> None:
    asking = state.asking(Layout(str(root)))
    lines = run(asking.script).text.split("\n")
    if missing == "end":
        lines = lines[:-2]
    elif missing == "begin":
        lines = lines[1:]
    else:
        lines = [line for line in lines if line.partition("\t")[0] != missing]
    with pytest.raises(AnswerNotUnderstood):
        state.parse(Result(0, "\n".join(lines).encode(), b""), asking.what, Layout(str(root)))


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.promise("state")
@given(st.sampled_from([*Record.__dataclass_fields__, "later"]), VALUES)
@settings(max_examples=400, deadline=None)
def test_a_record_with_any_value_is_read_as_a_record_or_not_at_all(key: str, value: Any) -> None:
    text = json.dumps({**json.loads(GOOD.dumps()), key: value})
    try:
        record = Record.loads(text, FIRST)
    except ValueError:
        return
    assert record.id == FIRST and record.state in records.STATES and record.bytes >= 0
    same = (
        isinstance(getattr(record, n), type(getattr(GOOD, n)))
        for n in Record.__dataclass_fields__
        if n != "before"
    )
    assert all(same)
    assert Record.loads(record.dumps(), FIRST) == record
    assert not any(path.startswith("/") or ".." in path.split("/") for path in record.shared)


@given(
    st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape"))
)
@settings(max_examples=300, deadline=None)
def test_any_answer_of_df(said: str) -> None:
    try:
        space = parse_space(said)
    except AnswerNotUnderstood:
        return
    assert space.free >= 0 and (space.free_inodes is None or space.free_inodes >= 0)


def test_df_as_programs_print_it() -> None:
    head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    assert parse_space(f"{head}/dev/x 10 5 5 50% /\n{head}/dev/x 9 1 8 1% /").free_inodes == 8
    for uncounted in ("0 0 0 -", "- - - -"):
        assert parse_space(f"{head}/dev/x 10 5 5 50% /\n{head}/dev/x {uncounted} /").free_inodes is None
    assert parse_space(f"{head}/dev/x 10 15 -5 100% /").free == 0  # what is reserved for root is in use
    with pytest.raises(AnswerNotUnderstood):
        parse_space(f"{head}/dev/x 10 5 many 50% /")


@pytest.mark.promise("state")
@pytest.mark.parametrize(
    "row",
    [
        "release\t../../victim\tdir", "release\t20200101000000/..\tdir", "recorded\t../../victim",
        "incoming\t..", "incoming\t../x", "jobs\t../../etc", "jobs\ta b", "jobs\t",
    ],
)  # fmt: skip
def test_a_name_that_leads_outside_is_not_understood(root: Path, row: str) -> None:
    """Our script prints no such row; a host that lies may."""
    layout = Layout(str(root))
    asking = state.asking(layout, ())
    said = run(asking.script)
    first, _, rest = said.out.decode().partition("\n")
    with pytest.raises(AnswerNotUnderstood):
        state.parse(replace(said, out=f"{first}\n{row}\n{rest}".encode()), asking.what, layout)


@pytest.mark.promise("state")
def test_an_answer_that_does_not_end_is_not_understood(root: Path) -> None:
    layout = Layout(str(root))
    asking = state.asking(layout, ())
    said = run(asking.script)
    for out in (said.out[:-1], said.out + b"more"):
        with pytest.raises(AnswerNotUnderstood):
            state.parse(replace(said, out=out), asking.what, layout)


@pytest.mark.promise("state")
def test_a_large_record_does_not_travel(root: Path) -> None:
    plant(root, SECOND, GOOD.dumps() + " " * (1 << 20))
    said = run(state.asking(Layout(str(root)), ()).script)
    assert len(said.out) < 100_000
    assert read(root).damaged == (SECOND,)
