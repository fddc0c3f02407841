"""What npm and its kind build: which command, and where the result lies."""

from __future__ import annotations

import re
from pathlib import Path

from .project import Project, keys, text

# By lock file: what installs exactly that, and what runs a script.
_MANAGERS = (
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "pnpm run"),
    ("yarn.lock", "yarn install --frozen-lockfile", "yarn run"),
    ("bun.lock", "bun install --frozen-lockfile", "bun run"),
    ("bun.lockb", "bun install --frozen-lockfile", "bun run"),
    ("package-lock.json", "npm ci", "npm run"),
    ("", "npm install", "npm run"),
)

# By package: what it is called, and the folder that its build leaves.
_STATIC = (
    ("gatsby", "Gatsby", "public"),
    ("@docusaurus/core", "Docusaurus", "build"),
    ("@11ty/eleventy", "Eleventy", "_site"),
    ("astro", "Astro", "dist"),
    ("@sveltejs/adapter-static", "SvelteKit", "build"),
    ("react-scripts", "Create React App", "build"),
    ("@vue/cli-service", "Vue CLI", "dist"),
    ("vite", "Vite", "dist"),
    ("parcel", "Parcel", "dist"),
)
_SERVERS = (("next", "Next.js"), ("nuxt", "Nuxt"), ("@sveltejs/kit", "SvelteKit"), ("express", "Node.js"))


def build_commands(folder: Path) -> tuple[str, ...]:
    """What installs and builds; none where package.json has no script `build`."""
    scripts = keys(folder / "package.json").get("scripts")
    if not isinstance(scripts, dict) or "build" not in scripts:
        return ()
    install, run = _manager(folder)
    return (install, f"{run} build")


def _manager(folder: Path) -> tuple[str, str]:
    return next((install, run) for lock, install, run in _MANAGERS if not lock or (folder / lock).is_file())


def look(folder: Path) -> Project | None:
    """A project that package.json describes."""
    if not (folder / "package.json").is_file():
        return None
    needs, built = _dependencies(folder), build_commands(folder)
    if "next" in needs and re.search(r"output\s*:\s*['\"]export['\"]", _next_config(folder)):
        return Project("Next.js, exported", "out", built=built)
    server = next((kind for package, kind in _SERVERS if package in needs), "")
    static = next(((kind, path) for package, kind, path in _STATIC if package in needs), None)
    if static and (not server or static[0] == "SvelteKit"):
        return Project(static[0], static[1], built=built)
    if not server and not built:
        return None  # package.json serves something else here
    if not server:
        path = next((name for name in ("dist", "build", "public") if (folder / name).is_dir()), "dist")
        return Project("Node.js, built", path, built=built)
    return Project(
        server,
        exclude=("node_modules/", ".next/cache/"),
        secrets=(".env",) if (folder / ".env").exists() else (),
        built=built,
        prepared=("npm ci --omit=dev" if (folder / "package-lock.json").is_file() else _manager(folder)[0],),
        advice=("The service that runs it has to be restarted to see a new release.",),
    )


def _next_config(folder: Path) -> str:
    return "".join(text(folder / f"next.config.{ending}") for ending in ("js", "mjs", "ts", "cjs"))


def _dependencies(folder: Path) -> set[str]:
    found = keys(folder / "package.json")
    kinds = (found.get(key) for key in ("dependencies", "devDependencies"))
    return {package for each in kinds if isinstance(each, dict) for package in each}
