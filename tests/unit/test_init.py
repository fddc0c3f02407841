"""`init`: what a folder and a host look like, and the configuration that comes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fabfile.errors import AnswerNotUnderstood, ConfigError
from fabfile.hosts import Target
from fabfile.init import begin, draft, files, folder, host
from fabfile.init.project import Project
from fabfile.remote.script_files import Scripts
from fabfile.settings import HostEntry, Settings, load

Files = dict[str, str]


def package(*packages: str, build: bool = True, **more: Any) -> str:
    scripts = {"build": "x"} if build else {}
    return json.dumps({"scripts": scripts, "dependencies": dict.fromkeys(packages, "1"), **more})


def composer(*packages: str) -> str:
    return json.dumps({"require": dict.fromkeys(packages, "*")})


SYMFONY, DOCTRINE = "symfony/framework-bundle", "doctrine/doctrine-migrations-bundle"
KIT = "@sveltejs/kit"

# What lies in a folder, what it is, what is deployed of it, and what else has to stand in the file.
KINDS: list[tuple[str, Files, str, list[str]]] = [
    ("Laravel", {"artisan": "", "composer.json": composer()}, ".", ["storage", "artisan migrate", "/.env"]),
    ("Laravel", {"artisan": "", "composer.json": "", "package.json": package("vite"), "yarn.lock": ""}, ".",
     ["yarn install --frozen-lockfile", "yarn run build", "composer install"]),
    ("Symfony", {"composer.json": composer(SYMFONY)}, ".", ["cache:clear", "var/log"]),
    ("Symfony", {"composer.json": composer(SYMFONY, DOCTRINE)}, ".", ["doctrine:migrations:migrate"]),
    ("WordPress", {"wp-includes/x.php": "", "index.php": ""}, ".", ["wp-content/uploads", "wp-config.php"]),
    ("PHP", {"index.php": ""}, ".", []),
    ("PHP", {"public/index.php": "", "composer.json": ""}, ".", ["current/public", "composer install"]),
    ("Django", {"manage.py": "import django", "requirements.txt": ""}, ".", ["-r requirements.txt"]),
    ("Django", {"manage.py": "DJANGO_SETTINGS_MODULE", "pyproject.toml": ""}, ".", ["collectstatic"]),
    ("Python", {"pyproject.toml": ""}, ".", [".venv/bin/pip install --quiet ."]),
    ("Vite", {"package.json": package("vite"), "package-lock.json": ""}, "dist", ["npm ci", "npm run build"]),
    ("Vite", {"package.json": package("vite"), "pnpm-lock.yaml": ""}, "dist", ["pnpm run build"]),
    ("Vite", {"package.json": package("vite")}, "dist", ["npm install"]),
    ("Next.js, exported", {"package.json": package("next"), "next.config.ts": "output: 'export'"}, "out", []),
    ("Next.js", {"package.json": package("next"), "package-lock.json": ""}, ".", ["npm ci --omit=dev"]),
    ("Create React App", {"package.json": package("react-scripts")}, "build", []),
    ("SvelteKit", {"package.json": package(KIT, "@sveltejs/adapter-static", "vite")}, "build", []),
    ("SvelteKit", {"package.json": package(KIT, "vite")}, ".", []),
    ("Node.js", {"package.json": package("express", build=False)}, ".", []),
    ("Node.js, built", {"package.json": package("esbuild"), "build/x": ""}, "build", []),
    ("Hugo", {"hugo.toml": ""}, "public", ["hugo --minify"]),
    ("MkDocs", {"mkdocs.yml": ""}, "site", ["mkdocs build"]),
    ("a static site", {"index.html": ""}, ".", ["/config.yaml"]),
    ("a static site", {"dist/index.html": "", "package.json": package(build=False)}, "dist", []),
    ("a folder of files", {"notes.txt": ""}, ".", []),
    ("a folder of files", {}, ".", []),
    # What is no JSON, or another kind of it, is no reason to fail.
    ("a folder of files", {"package.json": "{"}, ".", []),
    ("a folder of files", {"package.json": "[]"}, ".", []),
    ("a folder of files", {"package.json": '{"scripts": [], "dependencies": 5}'}, ".", []),
    ("PHP", {"composer.json": '{"require": "symfony/framework-bundle"}'}, ".", []),
    ("a folder of files", {"package.json": "[" * 100_000}, ".", []),
]  # fmt: skip


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Files], Path]:
    def made(content: Files) -> Path:
        for name, text in content.items():
            path = tmp_path / "shop" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "shop").mkdir(exist_ok=True)
        return tmp_path / "shop"

    return made


@pytest.mark.parametrize("kind, content, path, said", KINDS, ids=[f"{k[0]}-{n}" for n, k in enumerate(KINDS)])
def test_what_a_folder_holds(
    make: Callable[[Files], Path], kind: str, content: Files, path: str, said: list[str]
) -> None:
    """And the file that comes of it is valid by our own loader, and says what it should."""
    here = make(content)
    found = folder.look(here)
    assert (found.kind, found.path) == (kind, path)
    settings, text = written(here)
    assert settings.application == "shop" and settings.deploy_to == "/srv/shop"
    assert settings.source and settings.source.path == Path(f"{here}/{path}".removesuffix("/."))
    assert [each for each in said if each not in text] == []


def written(here: Path, *targets: str) -> tuple[Settings, str]:
    begin.begin(
        begin.Wish(here / "config.yaml"), [Target(t) for t in targets], "", None, lambda _: None, None
    )
    return load(here / "config.yaml"), (here / "config.yaml").read_text()


def git(here: Path, *words: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", *identity, *words], cwd=here, check=True, capture_output=True)


def test_commits_are_deployed_where_nothing_is_built(make: Callable[[Files], Path]) -> None:
    here = make({"index.html": ""})
    git(here, "init", "-q")
    assert not folder.look(here).git  # nothing is committed yet
    git(here, "add", ".")
    git(here, "commit", "-qm", "one")
    assert folder.look(here).git
    assert (settings := written(here)[0]).source and settings.source.git == str(here)
    (here / "package.json").write_text(package("vite"))
    assert not folder.look(here).git


@pytest.mark.parametrize("place", ["config.yaml", "fabfile.py", ".github/workflows/deploy.yml"])
@pytest.mark.parametrize("how", ["file", "link", "folder"])
def test_nothing_is_ever_replaced(make: Callable[[Files], Path], place: str, how: str) -> None:
    here = make({"index.html": ""})
    there = here / place
    there.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        there.symlink_to("nowhere")
    elif how == "file":
        there.write_text("mine")
    else:
        there.mkdir()
    before = sorted(here.rglob("*"))
    with pytest.raises(ConfigError, match="never replaced") as refused:
        wish = begin.Wish(here / "config.yaml", fabfile=True, ci="github")
        begin.begin(wish, [], "", None, lambda _: None, None)
    assert place in refused.value.why and sorted(here.rglob("*")) == before


def test_all_files_or_none(make: Callable[[Files], Path]) -> None:
    here = make({".github": "no folder"})
    with pytest.raises(ConfigError):
        begin.begin(begin.Wish(here / "config.yaml", ci="github"), [], "", None, lambda _: None, None)
    assert [path.name for path in here.iterdir()] == [".github"]


def test_what_is_asked(make: Callable[[Files], Path]) -> None:
    asked: list[tuple[str, str]] = []

    def ask(question: str, default: str) -> str:
        asked.append((question, default))
        return default if len(asked) == 1 else "/var/www/there"

    here = make({"index.html": ""})
    begin.begin(begin.Wish(here / "config.yaml"), [], "", ask, lambda _: None, None)
    assert [default for _, default in asked] == ["none", "/srv/shop"]
    assert load(here / "config.yaml").deploy_to == "/var/www/there"


@given(st.text(min_size=1))
def test_every_text_is_read_as_it_was(text: str) -> None:
    if all(char.isprintable() or char in "\t\n" for char in text):
        assert YAML(typ="safe", pure=True).load(f"- {draft.scalar(text)}\n") == [text]
        assert YAML(typ="safe", pure=True).load(f"# {draft.visible(text)}\na: [{draft.scalar(text)}]\n") == {
            "a": [text]
        }


@pytest.mark.parametrize("name", ["a b", "Ünï", "..", "1.5", "yes", "-x", "a#b", "a: b", '"', "x\ny", "ok"])
def test_odd_names_of_folders(tmp_path: Path, name: str) -> None:
    here = tmp_path / name / "in"
    shutil.rmtree(here, ignore_errors=True)
    here = tmp_path / f"{name}x"
    here.mkdir()
    (here / "index.html").touch()
    settings, _ = written(here)
    assert settings.application == folder.name(here) and settings.source


def seen(*rows: str) -> host.Seen:
    return host.parse("web1", "".join(f"{row}\n" for row in (*rows, "end")))


RELEASES, EMPTY = "site\treleases\t", "site\tempty\t"


@pytest.mark.parametrize(
    "hosts, chosen",
    [
        ([], "/srv/shop"),
        ([[f"{RELEASES}/var/www/shop"]], "/var/www/shop"),
        ([[f"{RELEASES}/var/www/other"]], "/var/www/other"),
        ([[f"{RELEASES}/srv/a", f"{RELEASES}/srv/b", "parent\t/home/d"]], "/home/d/shop"),
        ([[f"{RELEASES}/srv/a", f"{RELEASES}/srv/shop"]], "/srv/shop"),
        ([[f"{EMPTY}/var/www/shop", "parent\t/srv"]], "/var/www/shop"),
        ([[f"{EMPTY}/var/www/other", "parent\t/srv"]], "/srv/shop"),
        ([["parent\t/srv", "site\tfolder\t/srv/shop", "parent\t/home/d"]], "/home/d/shop"),
        ([["parent\t/srv", "parent\t/a"], ["parent\t/a"]], "/a/shop"),
        ([[f"{RELEASES}/srv/x"], ["parent\t/srv"]], "/srv/shop"),
        ([[]], "/srv/shop"),
    ],
)
def test_where_to(hosts: list[list[str]], chosen: str) -> None:
    """A layout that every host has, else an empty folder of the name, else one that may be made."""
    assert begin.choose("shop", [seen(*rows) for rows in hosts])[0] == chosen


@pytest.mark.parametrize(
    "text",
    [
        "", "home\t/a\n", "end\nhome\t/a\n", "home\ta\nend\n", "home\t/a\t/b\nend\n", "site\tnew\t/a\nend\n",
        "site\tempty\t/a/../b\nend\n", "site\tempty\t//a\nend\n", "fpm\tphp;rm\nend\n", "odd\tx\nend\n",
        "web\t$(x)\nend\n", "Welcome!\nend\n", "home\t/a\x1b[2J\nend\n", "home\t/\udcff\nend\n",
        f"home\t/{'a' * 5000}\nend\n",
    ],
)  # fmt: skip
def test_what_a_host_says_is_parsed_strictly(text: str) -> None:
    with pytest.raises(AnswerNotUnderstood):
        host.parse("web1", text)


def test_services_of_php(tmp_path: Path) -> None:
    """A hook where each host lets us reload it; else a line to take over, once there is the right to it."""
    php = Project("PHP", php=True)

    def text(*hosts: list[str]) -> str:
        found = tuple(seen(*rows) for rows in hosts)
        entries = (HostEntry("web1", "deploy", 2222, tmp_path / "a key"), HostEntry("web2"))
        return draft.Draft("shop", php, "/srv/shop", "as given", entries, found).text()

    hook = "    - sudo -n systemctl reload php8.2-fpm"
    may = ["fpm\tphp8.2-fpm", "may\tphp8.2-fpm"]
    assert hook in text(may) and hook in text(may, may)
    assert hook not in text(may, may[:1]) and "# With the right to it" in text(may, may[:1])
    assert "php-fpm" not in text([])
    (tmp_path / "config.yaml").write_text(text(may))
    first, second = load(tmp_path / "config.yaml").hosts
    assert first == HostEntry("web1", "deploy", 2222, tmp_path / "a key") and second.host == "web2"


def test_the_script_looks_around(tmp_path: Path, each_shell: str) -> None:
    """In each shell; nothing is written."""
    home = tmp_path / "ho me"
    for name in ("live/releases/1", "empty", "folder", "other", "odd\nname/releases", "public/public"):
        (home / name).mkdir(parents=True)
    (home / "live/current").symlink_to("releases/1")
    (home / "folder/index.php").touch()
    (home / "public/public/index.php").touch()
    (home / "other/readme").touch()
    from tests.support import local

    script = Scripts("fabfile.init")("look_around", most=50)
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [*local.SHELLS[each_shell].split(), "-c", script], capture_output=True, text=True, timeout=30,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    found = host.parse("web1", done.stdout)
    ours = {
        site.path.removeprefix(f"{home}/"): site.kind
        for site in found.sites
        if site.path.startswith(str(home))
    }
    assert ours == {"live": "releases", "empty": "empty", "folder": "folder", "public": "folder"}
    assert found.home == str(home) and str(home) in found.parents
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_documented_is_what_is_written() -> None:
    page = (Path(__file__).parents[2] / "docs/ci.md").read_text()
    for kind in files.CI:
        assert f"```yaml\n{files.template(kind)}```" in page
        assert YAML(typ="safe", pure=True).load(files.template(kind))
    compile(files.template("fabfile"), "fabfile.py", "exec")
