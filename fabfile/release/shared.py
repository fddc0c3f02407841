"""What outlives releases: shared directories and files, linked into each release."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..remote.files import Seen
from ..remote.shell import quote
from .layout import Layout


def target(path: str) -> str:
    """What the link at `path` in a release says: relative, so that a chrooted view resolves it too."""
    return "../" * (2 + path.count("/")) + f"shared/{path}"


def unlink(release: str, paths: Iterable[str]) -> str:
    """Commands that take the links out of a copied release, so that nothing is written through them."""
    names = [quote(f"{release}/{path}") for path in paths]
    return "; ".join(f"[ ! -L {name} ] || rm -f {name}" for name in names) or ":"


def link(layout: Layout, release: str, dirs: Sequence[str], files: Sequence[str], seeds: str | None) -> str:
    """A script that links every shared path into the release.

    What isn't in shared/ yet is seeded once: from the uploaded `seeds`, else from the release itself,
    else a directory is made (a file is not: its link dangles until somebody puts the file there).
    """
    commands = [_SEED]
    for path in (*dirs, *files):
        kind = "dir" if path in dirs else "file"
        names = (f"{layout.shared}/{path}", f"{release}/{path}", f"{seeds}/{path}" if seeds else "")
        commands.append(" ".join(["link", kind, *(quote(name) for name in (*names, target(path)))]))
    return "\n".join(["set -e", *commands])


def paths_to_check(layout: Layout, release: str, dirs: Sequence[str], files: Sequence[str]) -> list[str]:
    """What wrong() and dangling() need to be seen."""
    return [
        *(f"{release}/{path}" for path in (*dirs, *files)),
        *(f"{layout.shared}/{path}" for path in files),
    ]


def dangling(seen: Mapping[str, Seen], layout: Layout, files: Iterable[str]) -> list[str]:
    """The shared files that aren't there yet."""
    return [path for path in files if seen[f"{layout.shared}/{path}"].stat is None]


def wrong(seen: Mapping[str, Seen], release: str, paths: Iterable[str]) -> list[str]:
    """What is wrong with the links."""
    found = {path: seen[f"{release}/{path}"].target for path in paths}
    return [
        f"{path} -> {says}, expected {target(path)}" for path, says in found.items() if says != target(path)
    ]


# Seeds arrive by rename, so a cut never leaves half a directory in shared/.
_SEED = r"""
link() {
  kind=$1 there=$2 here=$3 seed=$4 says=$5
  mkdir -p "$(dirname "$there")" "$(dirname "$here")"
  if [ ! -e "$there" ] && [ ! -L "$there" ]; then
    if [ -n "$seed" ] && { [ -e "$seed" ] || [ -L "$seed" ]; }; then
      # What the site has put there while it was not shared yet goes along.
      if [ -d "$seed" ] && [ -d "$here" ] && [ ! -L "$here" ]; then cp -a "$here/." "$seed/"; fi
      mv "$seed" "$there"
    elif [ ! -L "$here" ] && [ -e "$here" ]; then
      rm -rf "$there.seed" && cp -a "$here" "$there.seed" && mv "$there.seed" "$there"
    elif [ "$kind" = dir ]; then
      mkdir -p "$there"
    fi
  fi
  if [ "$kind" = dir ] && [ -e "$there" ] && [ ! -d "$there" ]; then
    echo "$there is to be a shared directory, but it is a file" >&2; return 1
  fi
  if [ "$kind" = file ] && [ -d "$there" ]; then
    echo "$there is to be a shared file, but it is a directory" >&2; return 1
  fi
  rm -rf "$here" && ln -s "$says" "$here"
}
"""
