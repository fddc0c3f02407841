"""Git repositories, asked so that nothing of theirs runs here and nothing around us redirects git.

All work is done in a bare repository of our own, in a scratch folder. It borrows the objects of a repository
on this machine, or fetches those of another. So the other's configuration, hooks, replaced objects and
grafts are never read; what the account's own git configuration says (filters, proxies, credentials) holds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ...errors import SourceError
from ...local import processes

GIT_TIMEOUT = 600.0  # seconds for one git command: a clone over a slow network
SAID = 4000  # bytes of what git says that are shown

# Variables that say how to reach others stay. Those that redirect git (GIT_DIR, set in hooks) go.
_KEPT = re.compile(
    "GIT_(SSH|ASKPASS|CONFIG_|HTTP_|SSL_|PROXY|CURL_|ALLOW_PROTOCOL|EXEC_PATH|TRACE|TEST_)|(?!GIT_)"
)
# gitcredentials(7). The values come by the environment, which other accounts can't read.
_HELPER = (
    "!give() { [ \"$1\" != get ] || printf 'username=%s\\npassword=%s\\n' "
    '"$SWITCHOVER_GIT_USER" "$SWITCHOVER_GIT_PASSWORD"; }; give'
)
_UNATTENDED = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")


class GitFailed(SourceError):
    """A git command ended with another status than 0. said: its stderr."""

    def __init__(self, words: Sequence[str], address: str, said: str) -> None:
        self.said = said.strip() or "(git said nothing: no such ref?)"
        super().__init__(
            "git can't give the source.",
            f"git {' '.join(words)} ({address}): {self.said}",
            "Check source.git, --ref and source.subdir; see `git branch -a` and `git tag`.",
        )


@dataclass(frozen=True)
class Local:
    """A repository on this machine. git_dirs: its own folder, and the one that its worktrees share."""

    path: Path
    git_dirs: tuple[Path, ...]
    object_format: str

    def ask(self, *words: str) -> bytes:
        """Run a git command that only reads. Raises GitFailed."""
        # Without a protocol nothing that is missing is fetched, so no program of theirs is started.
        return run([*_UNATTENDED, *words], self.path, {"GIT_ALLOW_PROTOCOL": "none"}, str(self.path))

    @property
    def root(self) -> Path | None:
        """The top of its working tree; a bare one has none."""
        with contextlib.suppress(GitFailed):
            return Path(os.fsdecode(self.ask("rev-parse", "--show-toplevel").removesuffix(b"\n")))
        return None

    def configured(self, *words: str) -> bytes:
        """What `git config` prints, or nothing."""
        with contextlib.suppress(GitFailed):
            return self.ask("config", *words)
        return b""


@dataclass(frozen=True)
class Repository:
    """Our bare repository in `folder`. address: the other's, without credentials; local: it, if it is here;
    secrets: its credentials, as variables.
    """

    folder: Path
    address: str
    local: Local | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def git(self, *words: str, stdin: bytes = b"", more: Mapping[str, str] | None = None) -> bytes:
        """Run a git command in it; what it printed. more: of the environment. Raises GitFailed."""
        environment = {**self.secrets, **(more or {})}
        return run([*self._here, *words], self.folder, environment, self.address, stdin)

    @contextmanager
    def printing(self, *words: str, said: IO[bytes]) -> Iterator[IO[bytes]]:
        """What a git command prints while it runs. said: a file for its stderr. Raises GitFailed."""
        environment = _environment({**self.secrets, "GIT_LITERAL_PATHSPECS": "1"})
        command = [_program(), *self._here, *words]
        with processes.running(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=said
        ) as process:
            assert process.stdout is not None
            timer = threading.Timer(GIT_TIMEOUT, lambda: processes.end(process))
            timer.daemon = True
            timer.start()
            try:
                yield process.stdout
                status = process.wait(GIT_TIMEOUT)
            finally:
                timer.cancel()
                process.stdout.close()
        if status:
            raise GitFailed(words, self.address, _text(said))

    @property
    def _here(self) -> list[str]:
        return [f"--git-dir={self.folder}"]

    def configure(self, text: str) -> None:
        """Add to its configuration; a file, since an argument list can be read by everybody."""
        with (self.folder / "config").open("a") as file:
            file.write(text)


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read(SAID).decode("utf-8", "replace").strip()


def find(path: Path) -> Local:
    """The repository that the folder `path` belongs to. Raises SourceError."""
    here = Local(path, (), "")
    known = here.ask("rev-parse", "--show-object-format", "--git-dir", "--git-common-dir").decode(
        "utf-8", "surrogateescape"
    )
    object_format, git_dir, common = known.rstrip("\n").split("\n", 2)
    return Local(path, (path / git_dir, path / common), object_format)


def borrow(local: Local, folder: Path) -> Repository:
    """A repository in `folder` with the objects and refs of a local one."""
    made = _make(folder, str(local.path), local, local.object_format)
    objects = (
        str(local.git_dirs[-1] / "objects").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    )
    (folder / "objects/info").mkdir(parents=True, exist_ok=True)
    (folder / "objects/info/alternates").write_bytes(os.fsencode(f'"{objects}"\n'))
    with contextlib.suppress(OSError):  # e.g. what it leaves out of an export
        shutil.copyfile(local.git_dirs[-1] / "info/attributes", _new(folder / "info/attributes"))
    return made


def take_refs(repository: Repository) -> None:
    """Know the branches and tags of a borrowed repository, which `export-subst` may name."""
    if repository.local is not None:
        refs = repository.local.ask("for-each-ref", "--format=%(objectname) %(refname)")
        lines = [
            line
            for line in refs.splitlines()
            if line.split(b" ", 1)[1].startswith((b"refs/heads/", b"refs/tags/"))
        ]
        (repository.folder / "packed-refs").write_bytes(b"".join(line + b"\n" for line in lines))


def fetch(
    address: str, ref: str | None, folder: Path, *, trusted: bool = True, like: Repository | None = None
) -> Repository:
    """A repository in `folder` with one commit of the one at `address`, or where that can't be had alone,
    with all of its branches and tags. Raises SourceError.

    trusted: whether a person has named the address; else git allows no local path and no program in it.
    like: a repository whose credentials hold here too, if it is on the same host.
    """
    bare, secrets = split_credentials(address)
    if not secrets and like is not None and _host(like.address) == _host(bare):
        secrets = dict(like.secrets)
    if not trusted:
        secrets = {**secrets, "GIT_PROTOCOL_FROM_USER": "0"}
    made = _make(folder, bare, None, "sha1", secrets)
    made.configure(f'[remote "origin"]\n\turl = {quoted(bare)}\n')
    if secrets.get("SWITCHOVER_GIT_USER"):
        # A helper of the account's own may know another password: where one is given, it is not asked.
        others = "\thelper =\n" if secrets["SWITCHOVER_GIT_PASSWORD"] else ""
        name = f"\tusername = {quoted(secrets['SWITCHOVER_GIT_USER'])}\n"
        made.configure(f"[credential {quoted(_host(bare))}]\n{name}{others}\thelper = {quoted(_HELPER)}\n")
    options = ("fetch", "--quiet", "--no-write-fetch-head")
    try:
        made.git(*options, "--depth=1", "--no-tags", "origin", f"+{ref or 'HEAD'}:{WANTED}")
    except GitFailed:  # an abbreviated commit, main~2, or a server that gives no part
        head = [] if ref else [f"+HEAD:{WANTED}"]
        made.git(*options, "origin", *head, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    return made


WANTED = "refs/switchover/wanted"


def fetch_all(repository: Repository) -> None:
    """Fetch the history too, with its tags. Raises SourceError."""
    if repository.local is None and (repository.folder / "shallow").exists():
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        repository.git("fetch", "--quiet", "--no-write-fetch-head", "--unshallow", "origin", *refs)


def commit_of(repository: Repository, ref: str | None) -> str:
    """The full id of the commit that `ref` names, or HEAD, in the other repository. Raises GitFailed."""
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    if repository.local is not None:
        found = repository.local.ask(*verify, f"{ref or 'HEAD'}^{{commit}}")
    elif (repository.folder / "shallow").exists() or not ref:
        found = repository.git(*verify, f"{WANTED}^{{commit}}")
    else:
        found = repository.git(*verify, f"{ref}^{{commit}}")
    return found.decode().strip()


def _make(
    folder: Path,
    address: str,
    local: Local | None,
    object_format: str,
    secrets: Mapping[str, str] | None = None,
) -> Repository:
    words = ["init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(folder)]
    run(words, folder.parent, {}, address)
    made = Repository(folder, address, local, secrets or {})
    made.configure(f"[core]\n\thooksPath = {os.devnull}\n\tfsmonitor = false\n[gc]\n\tauto = 0\n")
    return made


def _new(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return path


def _host(address: str) -> str:
    """Scheme, host and port of a URL."""
    return urllib.parse.urlunsplit((*urllib.parse.urlsplit(address)[:2], "", "", ""))


def split_credentials(address: str) -> tuple[str, dict[str, str]]:
    """An address without its user and password, and these as variables for _HELPER."""
    if not re.match(r"(?i)https?://[^/?#]*@", address):
        return address, {}
    parts = urllib.parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = (urllib.parse.unquote(part) for part in user.partition(":"))
    if re.search(r"[\n\r\0]", name + password):
        raise SourceError(
            "The address of the repository has a line break in its user.", "", "Correct source.git."
        )
    return parts._replace(netloc=host).geturl(), {
        "SWITCHOVER_GIT_USER": name,
        "SWITCHOVER_GIT_PASSWORD": password,
    }


def quoted(value: str) -> str:
    """A value as git-config(1) has it in a file. Raises SourceError."""
    if re.search(r"[\x00-\x1f]", value):
        raise SourceError(f"{value!r} is no address of a repository.", "it has control characters", "")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def run(
    words: Sequence[str], folder: Path, more: Mapping[str, str], address: str, stdin: bytes = b""
) -> bytes:
    """Run git in `folder`; what it printed. more: of the environment. Raises GitFailed and SourceError."""
    command = [_program(), *words]
    try:
        with processes.running(
            command,
            cwd=folder,
            env=_environment(more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            out, err = process.communicate(stdin, timeout=GIT_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"git did not end within {GIT_TIMEOUT:g} s.", f"git {' '.join(_shown(words))}", "Try it by hand."
        ) from error
    except OSError as error:
        raise SourceError(f"git can't be run in {folder}.", str(error), "Correct source.git.") from error
    if process.returncode:
        raise GitFailed(_shown(words), address, err[:SAID].decode("utf-8", "replace"))
    return out


def _shown(words: Sequence[str]) -> list[str]:
    """A command without what it has only because we run it."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        del rest[: 2 if rest[0] == "-c" else 1]
    return rest


def _program() -> str:
    if git := shutil.which("git"):
        return git
    raise SourceError("The source is a git repository, but git is not installed here.", "", "Install git.")


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if _KEPT.match(name)}
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **more}
