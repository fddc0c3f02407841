"""What a repository may try while it is exported."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from fabfile.build.source import source
from fabfile.build.source.repository import split_credentials
from fabfile.errors import SourceError
from fabfile.local.local_cache import cache_folder
from tests.support.web import HealthPage


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.com")


def git(folder: Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *words], cwd=folder, input=stdin, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of one file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "index.html").write_text("one\n")
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x", "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def exported(address: Path | str, **more: str) -> dict[str, str]:
    """The files of HEAD with their content."""
    with source.opened(git=str(address), exclude=[".git"], **more) as found:
        files = [entry for entry in found.manifest if entry.kind == "file"]
        return {entry.path: b"".join(found.read(entry)).decode() for entry in files}


def raw_tree(folder: Path, *entries: tuple[str, bytes, str]) -> str:
    """A tree object of (mode, name, id) as they are, which git itself would not make."""
    data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    return git(folder, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=data)


HOSTILE = [
    "twice",
    "twice-file",
    "..",
    ".git",
    ".GIT",
    ".git. ",
    "git~1",
    ".g\u200cit",
    "../x",
    "a/b",
    "/abs",
]


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("way", ["local", "url"])
def test_a_tree_that_leads_out_is_refused_by_name(
    repository: Path, tmp_path: Path, kind: str, way: str
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    blob = git(repository, "hash-object", "-w", "--stdin", stdin=b"evil")
    target = git(repository, "hash-object", "-w", "--stdin", stdin=os.fsencode(canary))
    inner = raw_tree(repository, ("100644", b".profile", blob))
    if kind == "twice":
        tree = raw_tree(repository, ("120000", b"a", target), ("40000", b"a", inner))
    elif kind == "twice-file":
        tree = raw_tree(repository, ("120000", b"a", target), ("100644", b"a", blob))
    else:
        tree = raw_tree(repository, ("120000", b"a", target), ("40000", kind.encode(), inner))
    made = git(repository, "commit-tree", tree, "-m", "evil")
    git(repository, "update-ref", "refs/heads/evil", made)
    address = str(repository) if way == "local" else f"file://{repository}"
    with pytest.raises(SourceError) as caught:
        exported(address, ref="evil")
    assert not list(canary.iterdir())
    assert "Traceback" not in caught.value.why
    assert not list((cache_folder() / "scratch").iterdir())


def test_the_repositorys_own_configuration_and_our_surroundings_do_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    touch = tmp_path / "touch"
    touch.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    touch.chmod(0o755)
    for key in ("core.fsmonitor", "core.sshCommand", "uploadpack.packObjectsHook", "tar.tar.command"):
        git(repository, "config", key, str(touch))
    git(repository, "config", "core.hooksPath", str(tmp_path))
    replaced = git(repository, "rev-parse", "HEAD:index.html")
    other = git(repository, "hash-object", "-w", "--stdin", stdin=b"replaced\n")
    git(repository, "replace", replaced, other)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    monkeypatch.setenv("GIT_INDEX_FILE", str(elsewhere / ".git/index"))
    for address in (repository, f"file://{repository}"):
        assert exported(address) == {"index.html": "one\n"}
    assert not canary.exists()


def test_a_filter_of_the_repositorys_own_is_refused_by_name(repository: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    git(repository, "config", "filter.own.smudge", f"touch {canary}; cat")
    (repository / ".gitattributes").write_text("*.secret filter=own\n")
    (repository / "a.secret").write_text("x")
    commit(repository)
    canary.unlink(missing_ok=True)
    with pytest.raises(SourceError) as caught:
        exported(repository)
    assert "a.secret" in caught.value.why and not canary.exists()


@pytest.mark.parametrize("way", ["local", "url"])
def test_attributes_hold_as_in_an_export(repository: Path, way: str) -> None:
    (repository / ".gitattributes").write_text("tests export-ignore\nversion export-subst\n")
    (repository / "tests").mkdir()
    (repository / "tests/t").write_text("t")
    (repository / "version").write_text("$Format:%H %(describe:tags)$")
    made = commit(repository)
    git(repository, "tag", "v7")
    found = exported(repository if way == "local" else f"file://{repository}")
    assert "tests/t" not in found and found["version"] == f"{made} v7"


@pytest.fixture
def with_submodule(repository: Path, tmp_path: Path) -> Path:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q", "-b", "main")
    (library / "lib.js").write_text("lib\n")
    commit(library)
    allow = ("-c", "protocol.file.allow=always")
    git(repository, *allow, "submodule", "--quiet", "add", str(library), "vendor/lib")
    commit(repository)
    return repository


def test_submodules_come_along_or_are_refused_by_name(with_submodule: Path, tmp_path: Path) -> None:
    assert exported(with_submodule)["vendor/lib/lib.js"] == "lib\n"
    assert exported(with_submodule, subdir="vendor")["lib/lib.js"] == "lib\n"
    with pytest.raises(SourceError) as caught:  # git's own rule: no local path from a stranger's .gitmodules
        exported(f"file://{with_submodule}")
    assert "vendor/lib" in caught.value.why
    plain = tmp_path / "plain"
    git(tmp_path, "clone", "-q", str(with_submodule), str(plain))
    with pytest.raises(SourceError) as caught:
        source.scan(plain, [".git"], ())
    assert "vendor/lib" in caught.value.why
    source.scan(plain, [".git", "vendor/lib"], ())


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"


@pytest.mark.parametrize("way", ["git", "path"])
def test_lfs_pointers_are_refused_by_name(repository: Path, way: str) -> None:
    (repository / "big.bin").write_text(POINTER)
    commit(repository)
    for _ in range(2):  # what is remembered of it does not hide it
        with pytest.raises(SourceError) as caught:
            exported(repository) if way == "git" else source.scan(repository, [".git"], ())
        assert "big.bin" in caught.value.why


def test_credentials_leave_the_address() -> None:
    address, secrets = split_credentials("https://me:to%2Fken@example.com:8443/a.git")
    assert address == "https://example.com:8443/a.git"
    assert set(secrets.values()) == {"me", "to/ken"}
    assert split_credentials("git@example.com:a.git") == ("git@example.com:a.git", {})


@pytest.mark.parametrize(("given", "asked"), [("name@", True), ("name:word@", False)])
def test_a_name_in_the_address_is_the_name_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, asked: bool
) -> None:
    """The account's own helpers know several, and are told which; with a password they are not asked."""
    heard, config = tmp_path / "heard", tmp_path / "gitconfig"
    config.write_text(f'[credential]\n\thelper = "!cat >> {heard}; echo password=theirs; :"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    with HealthPage(401) as page, pytest.raises(SourceError):
        exported(page.url.replace("http://", f"http://{given}"))
    assert (heard.exists() and "username=name\n" in heard.read_text()) == asked
    sent = "name:theirs" if asked else "name:word"
    assert f"Basic {base64.b64encode(sent.encode()).decode()}" in page.authorized
