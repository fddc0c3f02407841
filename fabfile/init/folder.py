"""What kind of project a folder holds, and what that means for its deployment."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

from . import node
from .project import Project, keys, text


def look(folder: Path) -> Project:
    """The first kind that fits. A folder that fits none is deployed as it is."""
    for kind in (_laravel, _symfony, _wordpress, _django, node.look, _generator, _php, _python, _static):
        if found := kind(folder):
            # What was built is in no commit.
            return replace(found, git=not found.built and found.path == "." and has_commits(folder))
    return Project("a folder of files", git=has_commits(folder))


def name(folder: Path) -> str:
    """A name for what is deployed: the folder's, in the letters that names may have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip(".-")
    return plain or "site"


def has_commits(folder: Path) -> bool:
    """Whether it is a repository with something to deploy in it."""
    if not (folder / ".git").exists():
        return False
    words = ["git", "-C", str(folder), "rev-parse", "--quiet", "--verify", "HEAD"]
    try:
        asked = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _required(folder: Path) -> set[str]:
    """The packages that composer.json names."""
    found = keys(folder / "composer.json").get("require")
    return set(found) if isinstance(found, dict) else set()


def _composer(folder: Path) -> tuple[str, ...]:
    install = "composer install --no-dev --no-interaction --optimize-autoloader"
    return (install,) if (folder / "composer.json").is_file() else ()


_PHP = Project(
    "PHP",
    php=True,
    advice=(
        "nginx: fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;",
        "with $document_root PHP goes on with the paths of the release before.",
    ),
)


def _laravel(folder: Path) -> Project | None:
    if not (folder / "artisan").is_file() or not (folder / "composer.json").is_file():
        return None
    return replace(
        _PHP, kind="Laravel", root="public", dirs=("storage",), secrets=(".env",),
        exclude=("node_modules/", "/storage/", "/tests/", "/public/hot"),
        built=(*_composer(folder), *node.build_commands(folder)),
        prepared=("php artisan migrate --force", "php artisan config:cache", "php artisan route:cache"),
    )  # fmt: skip


def _symfony(folder: Path) -> Project | None:
    required = _required(folder)
    if "symfony/framework-bundle" not in required:
        return None
    migrations = "php bin/console doctrine:migrations:migrate --no-interaction --allow-no-migration"
    return replace(
        _PHP, kind="Symfony", root="public", dirs=("var/log",), secrets=(".env.local",),
        exclude=("node_modules/", "/var/", "/tests/", ".env.local"),
        built=(f"{_composer(folder)[0]} --no-scripts", *node.build_commands(folder)),
        prepared=(
            "APP_ENV=prod php bin/console cache:clear",
            *([migrations] if "doctrine/doctrine-migrations-bundle" in required else []),
        ),
    )  # fmt: skip


def _wordpress(folder: Path) -> Project | None:
    if not (folder / "wp-includes").is_dir():
        return None
    return replace(
        _PHP, kind="WordPress", dirs=("wp-content/uploads",), secrets=("wp-config.php",),
        exclude=("/wp-content/uploads/", "/wp-content/cache/"),
    )  # fmt: skip


def _php(folder: Path) -> Project | None:
    root = next((name for name in ("public", "web") if (folder / name / "index.php").is_file()), "")
    if not root and not (folder / "index.php").is_file() and not (folder / "composer.json").is_file():
        return None
    return replace(_PHP, root=root, built=_composer(folder), secrets=_local_secrets(folder))


def _local_secrets(folder: Path) -> tuple[str, ...]:
    return (".env",) if (folder / ".env").exists() or (folder / ".env.example").exists() else ()


_VENV = "python3 -m venv .venv && .venv/bin/pip install --quiet"


def _django(folder: Path) -> Project | None:
    if "django" not in text(folder / "manage.py").lower():
        return None
    return replace(
        _python(folder) or Project("Python"), kind="Django", dirs=("media",),
        prepared=(
            f"{_VENV} {_requirements(folder)}",
            ".venv/bin/python manage.py migrate --noinput",
            ".venv/bin/python manage.py collectstatic --noinput",
        ),
    )  # fmt: skip


def _python(folder: Path) -> Project | None:
    if not (folder / "pyproject.toml").is_file() and not (folder / "requirements.txt").is_file():
        return None
    return Project(
        "Python", exclude=(".venv/", "venv/", "__pycache__/", "*.pyc"), secrets=_local_secrets(folder),
        prepared=(f"{_VENV} {_requirements(folder)}",),
        advice=("The service that runs it has to be restarted to see a new release.",),
    )  # fmt: skip


def _requirements(folder: Path) -> str:
    return "-r requirements.txt" if (folder / "requirements.txt").is_file() else "."


_GENERATORS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("Hugo", ("hugo.toml", "hugo.yaml", "hugo.json"), "public", "hugo --minify"),
    ("MkDocs", ("mkdocs.yml", "mkdocs.yaml"), "site", "mkdocs build --strict"),
    ("Jekyll", ("_config.yml",), "_site", "bundle exec jekyll build"),
    ("Zola", ("zola.toml",), "public", "zola build"),
)


def _generator(folder: Path) -> Project | None:
    for kind, files, path, command in _GENERATORS:
        if any((folder / file).is_file() for file in files):
            return Project(kind, path, built=(command,))
    return None


def _static(folder: Path) -> Project | None:
    for path in (".", "dist", "build", "public", "_site", "site", "out", "www", "htdocs"):
        if (folder / path / "index.html").is_file():
            return Project("a static site", path)
    return None
