"""The scripts as files: what is passed, what travels, and that every shell can read them."""

from __future__ import annotations

import re
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from fabfile.remote.script_files import Scripts, quote
from tests.support import local

ROOT = Path(str(files("fabfile")))
ALL = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.sh"))


def scripts_of(path: Path) -> Scripts:
    return Scripts("fabfile." + ".".join(path.parts[:-2]))


def declared(path: Path) -> list[str]:
    return re.findall(r'"\$\{(\w+)\?\}"', (ROOT / path).read_text())


def travelling(path: Path) -> str:
    """A script as it is sent; its variables, and those of what it includes, are x."""
    names = set(declared(path))
    while True:
        try:
            return scripts_of(path)(path.stem, **dict.fromkeys(names, "x"))
        except TypeError as error:
            more = set(re.findall(r"'(\w+)'", str(error).partition(", not ")[0])) - names
            assert more, error
            names |= more


@pytest.mark.parametrize("path", ALL, ids=str)
def test_a_script_says_what_it_is_for(path: Path) -> None:
    first, second, *_ = (ROOT / path).read_text().splitlines()
    assert first == "#!/bin/sh" and re.match("# .{10}", second)


@pytest.mark.parametrize("path", ALL, ids=str)
def test_nothing_is_lost_that_is_not_for_readers(path: Path) -> None:
    """Indentation and lines that begin with # do not travel: neither may be part of a value."""
    assert "<<" not in (ROOT / path).read_text()
    text = travelling(path)
    assert not re.search(r"^[ \t#]|^$|\. \./\w+\.sh", text, re.M)


@pytest.mark.parametrize("path", ALL, ids=str)
def test_every_shell_can_read_it(path: Path, each_shell: str) -> None:
    words = [*local.SHELLS[each_shell].split(), "-n"]
    done = subprocess.run(words, input=travelling(path).encode(), capture_output=True, timeout=30)
    # ksh93 gives advice, too, and to zsh what begins with ! has failed.
    assert done.returncode == 0 or not done.stderr, done.stderr


def test_what_is_passed_is_what_arrives(tmp_path: Path, each_shell: str) -> None:
    """Whatever the values hold."""
    odd = ["a b", "", "'", '"$HOME"', "-n", "\\n", "a\nb", "*", "é"]
    odd += [] if each_shell == "yash" else ["\udcff"]  # it takes no argument that is not text
    (tmp_path / "words.sh").write_text(
        '#!/bin/sh\n: "${first?}" "${second?}"\nprintf "%s|" "$first" "$second" "$@"\n'
    )
    scripts = Scripts("fabfile.remote")
    scripts.folder = str(tmp_path)
    said = local.sh(scripts("words", *odd, first=odd[3], second=7)).stdout
    assert said.decode("utf-8", "surrogateescape").split("|") == [odd[3], "7", *odd, ""]


@pytest.mark.parametrize("given", [{}, {"job": "x"}, {"folder": "x", "turns": 1, "job": "x"}], ids=str)
def test_a_value_too_many_or_too_few_is_a_mistake(given: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=r"settle_jobs\.sh takes"):
        Scripts("fabfile.remote")("settle_jobs", **given)


def test_what_is_included_twice_is_there_once() -> None:
    text = Scripts("fabfile.remote").functions("run_job")
    assert text.count("started() {") == 1


def test_a_nul_enters_no_command() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")
