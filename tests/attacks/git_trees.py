"""Git repositories that no git would make, drawn from a seed; and what exporting one must not do."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

from fabfile.build.source import source
from fabfile.errors import SourceError
from tests.attacks.verdict import DONE, REFUSED, WRONG, Verdict

NAMES = (
    b"a",
    b"b",
    b"d",
    b"a",
    b".profile",
    b"x y",
    b"\xff",
    b"new\nline",
    b"-rf",
    b"A",
    b"e\xcc\x81",
    b"\xc3\xa9",
)
ODD_NAMES = (
    b".git", b".GIT", b".git. ", b"git~1", b".g\xe2\x80\x8cit", b"..", b".", b"../x", b"a/b", b"/abs", b"",
    b".git/hooks", b".git:x", b"a\\..\\b", b"x" * 300, b"\xed\xa0\x80", b".gitmodules", b".gitattributes",
)  # fmt: skip
ODD_MODES = (
    "100777",
    "104755",
    "102644",
    "060000",
    "020644",
    "000000",
    "140000",
    "40777",
    "120755",
    "160755",
    "1",
    "",
)
ATTRIBUTES = (
    b"* filter=own\n", b"* export-subst\n", b"a export-ignore\n", b"* working-tree-encoding=UTF-16\n",
    b"* text eol=crlf ident\n", b"[attr]x filter=own\n* x\n", b"* filter=lfs diff=lfs merge=lfs -text\n",
)  # fmt: skip
ADDRESSES = (
    "ext::sh -c 'touch {canary}/ran'", "--upload-pack=touch {canary}/ran", "file://{canary}", "{canary}",
    "../../../canary", "-u./ran", "ssh://-oProxyCommand=touch {canary}/ran/x", "http://127.0.0.1:1/x.git", "",
)  # fmt: skip
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"

Entry = tuple[str, bytes, str]


class Objects:
    """The loose objects of a repository, written without git, which would refuse most of these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True, timeout=60)
        # What a stranger's repository may say about itself: none of it may be heeded.
        ran = folder.parent / "canary/ran"
        with (folder / "config").open("a") as config:
            config.write(f'[core]\n\tfsmonitor = "touch {ran}"\n\tsshCommand = "touch {ran}"\n')
            config.write(
                f'[filter "own"]\n\tsmudge = "touch {ran}; cat"\n'
                f'[tar "tar"]\n\tcommand = "touch {ran}; cat"\n'
            )

    def add(self, kind: str, data: bytes) -> str:
        """Write an object; its id."""
        whole = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        path = self.folder / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(whole, 1))
        return name

    def tree(self, entries: list[Entry]) -> str:
        """A tree with these entries, as they are."""
        rows = [mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries]
        return self.add("tree", b"".join(rows))

    def commit(self, tree: str) -> None:
        """Make it what HEAD is."""
        who = "t <t@example.com> 1700000000 +0000"
        commit = self.add("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n".encode())
        head = self.folder / (self.folder / "HEAD").read_text().removeprefix("ref: ").strip()
        head.parent.mkdir(parents=True, exist_ok=True)
        head.write_text(f"{commit}\n")


class Drawn:
    """One repository."""

    def __init__(self, seed: int, folder: Path, canary: Path) -> None:
        self.rng = random.Random(seed)
        self.objects = Objects(folder)
        self.canary = canary
        self.blobs: set[bytes] = set()
        self.plain = True  # what is exported is what the blobs hold
        top = self._entries(3)
        if self.rng.random() < 0.3:
            top.append(self._file(b".gitattributes", self.rng.choice(ATTRIBUTES)))
            self.plain = False
        if self.rng.random() < 0.4:
            top += self._submodule()
        if self.rng.random() < 0.15:
            top.append(self._file(b"big", LFS))
        self.objects.commit(self.objects.tree(top))

    def _file(self, name: bytes, content: bytes, mode: str = "100644") -> Entry:
        self.blobs.add(content)
        return mode, name, self.objects.add("blob", content)

    def _link(self, name: bytes) -> Entry:
        to = self.rng.choice(
            (os.fsencode(self.canary), b"../canary", b"a", b"/", b"..", b"no/such", b"", b"x" * 5000, b"a\0b")
        )
        return "120000", name, self.objects.add("blob", to)

    def _entries(self, depth: int) -> list[Entry]:
        entries: list[Entry] = []
        for _ in range(self.rng.randrange(1, 5)):
            name = self.rng.choice(NAMES if self.rng.random() < 0.93 else ODD_NAMES)
            kind = self.rng.random()
            if kind < 0.3 and depth:
                entries.append(("40000", name, self.objects.tree(self._entries(depth - 1))))
            elif kind < 0.42:
                entries.append(self._link(name))
            elif kind < 0.47:
                entries.append(self._file(name, b"odd", self.rng.choice(ODD_MODES)))
            else:
                mode = self.rng.choice(("100644", "100755", "100664"))
                entries.append(self._file(name, b"content %d" % self.rng.randrange(9), mode))
        if self.rng.random() < 0.7:  # as git sorts them, each name once
            entries = sorted(
                {name: entry for entry in entries for name in [entry[1]]}.values(), key=lambda e: e[1]
            )
        return entries

    def _submodule(self) -> list[Entry]:
        where = self.rng.choice(("vendor", "a", "../canary", ".git/modules/x", "-x", "d/in"))
        url = self.rng.choice(ADDRESSES).format(canary=self.canary)
        text = f'[submodule "{self.rng.choice(("x", "../../x", "a b"))}"]\n\tpath = {where}\n\turl = {url}\n'
        text += self.rng.choice(("", f"\tupdate = !touch {self.canary}/ran\n"))
        modules = self._file(b".gitmodules", text.encode())
        if self.rng.random() < 0.2:
            modules = self._link(b".gitmodules")
        return [modules, ("160000", self.rng.choice((b"vendor", b"a")), "ab" * 20)]


def _everything(*folders: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            info = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (info.st_mode, info.st_mtime_ns, content)
    return found


def judge_git(seed: int) -> Verdict:
    """Export one such repository as a deployment or its plan would, beside a canary and a home."""
    base = Path(tempfile.mkdtemp(prefix="switchover-git-"))
    before = {name: os.environ.get(name) for name in ("HOME", "XDG_CACHE_HOME")}
    try:
        canary, home = base / "canary", base / "home"
        for folder in (canary, home):
            folder.mkdir()
            (folder / ".profile").write_text("canary")
        os.environ.update(HOME=str(home), XDG_CACHE_HOME=str(base / "cache"))
        return _judged(seed, base, canary, home)
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        return Verdict(seed, WRONG, [f"{type(error).__name__}: {error}"], "git")
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(base, ignore_errors=True)


def _judged(seed: int, base: Path, canary: Path, home: Path) -> Verdict:
    drawn = Drawn(seed, base / "repository.git", canary)
    address = str(drawn.objects.folder)
    untouched = _everything(canary, home)
    wrong: list[str] = []
    fate, why = DONE, ""
    try:
        with source.opened(git=address if seed % 3 else f"file://{address}", exclude=[".git"]) as found:
            for entry in found.manifest:
                content = b"".join(found.read(entry)) if entry.kind == "file" else b""
                if drawn.plain and entry.kind == "file" and content not in drawn.blobs:
                    wrong.append(f"{entry.path!r} has other content: {content[:80]!r}")
                if any(
                    part.lower().startswith(".git") and part != ".gitmodules"
                    for part in entry.path.split("/")
                ):
                    wrong += [] if entry.path.endswith(".gitattributes") else [f"{entry.path!r} was taken"]
    except SourceError as error:
        fate, why = REFUSED, f"{error.what} {error.why}"
    wrong += [
        f"{path} changed" for path, what in _everything(canary, home).items() if untouched.get(path) != what
    ]
    wrong += [f"left: {path}" for path in (base / "cache/switchover/scratch").glob("*")]
    return Verdict(seed, WRONG if wrong else fate, wrong or [why], "git")
