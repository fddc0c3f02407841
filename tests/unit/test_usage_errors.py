"""What is typed wrong: exit code 2, the nearest name, JSON where --json is among the words; no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fabfile.cli.main import bundled


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        bundled().run(["switchover", *words.split()])
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


WRONG = {
    "deplyo": ["There is no task deplyo", "did you mean deploy?"],
    "deploy --plann": ["deploy has no flag --plann", "did you mean --plan?"],
    "deploy --source . --plann": ["deploy has no flag --plann"],
    "deploy --source=. --fromscratch": ["--from-scratch"],
    "deploy extra": ["There is no task extra", "nothing of a similar name"],
    "deploy -z": ["deploy has no flag -z"],
    "--bogus deploy": ["There is no flag --bogus"],
    "deploy --transfer": ["--transfer needs a value"],
    "deploy --transfer --plan": ["--transfer needs a value"],
    "rollback --to": ["--to needs a value"],
    "-H": ["-H needs a value"],
    "diagnose --wait soon": ["--wait takes a whole number, not 'soon'"],
    "-t soon deploy": ["-t takes a whole number, not 'soon'"],
    "deploy --wait=5": ["deploy has no flag --wait"],
    "-H web1:99999 deploy": ["found 'web1:99999'", "port 1 to 65535"],
    "-H web1:port deploy": ["found 'web1:port'"],
    "-H web1,-oProxyCommand=x deploy": ["A host is not named as it should be"],
    "-H , deploy": ["-H names no host"],
    "deploy -H web1:0": ["found 'web1:0'"],
    "--help deplyo": ["There is no task deplyo", "did you mean deploy?"],
    "--list nosuch": ["nosuch"],
    "-c no-such-fabfile deploy": ["no-such-fabfile"],
    "-S no/such/file deploy": ["no/such/file can't be read"],
    "-f no/such/file.yaml deploy": ["no/such/file.yaml"],
    "-f no/such/file deploy": ["no/such/file"],
    "deploy -- ls": ["What follows -- is taken by no task"],
    "-- ls": ["No host is named"],
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(words, capsys)
    assert code == 2 and out == "", (code, out, err)
    assert "Traceback" not in err and "exit code 2" in err
    for said in WRONG[words]:
        assert said in err, err


@pytest.mark.parametrize("words", [words for words in WRONG if words != "-H" and "--help" not in words])
def test_wrong_words_with_json(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The document of every command; --json may stand anywhere among a task's words."""
    before, dashes, after = words.partition(" --")
    for typed in {f"{words} --json", f"{before} --json{dashes}{after}"}:
        code, out, _ = run(typed, capsys)
        document = json.loads(out)
        assert code == 2 == document["exit_code"] and document["hosts"] == [] and document["ok"] is False
        assert document["error"]["what"] and document["error"]["try"]


def test_what_fabric_is_told_to_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text, said in (
        ("a.yaml", "tasks: {executor_class: no.such.Executor}", "no.such.Executor"),
        ("b.yaml", "tasks: {executor_class: nothing}", "nothing"),
        ("c.yaml", "a: [", "c.yaml"),
    ):
        (tmp_path / name).write_text(text)
        code, _, err = run(f"-f {tmp_path / name} deploy", capsys)
        assert code == 2 and said in err and "Traceback" not in err, err


def test_a_command_that_can_not_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Fabric itself runs what follows --, without a task."""
    code, _, err = run("-H 127.0.0.1:1 -- uptime", capsys)
    assert code == 1 and "switchover -H 127.0.0.1:1 diagnose" in err and "Traceback" not in err


def test_no_flag_has_a_letter() -> None:
    """One that means something to Fabric, or something else in the next command, misleads."""
    from fabfile import ns

    for context in ns.to_contexts():
        assert all(flag.startswith("--") for flag in context.flags), (context.name, context.flags)
