"""What the host says about its deployments: the truth, read in one command."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import HostNotReady
from ..remote.files import Space, parse_space
from ..remote.host import Host
from ..remote.shell import Part, Result, failed, quote
from . import remembered
from .layout import Layout
from .manifest import Known, Manifest, unescape
from .records import Record


@dataclass(frozen=True)
class Kept:
    """A manifest that the host keeps, unread. digest: the sha256 of its text, "" where the host can't tell;
    doubtful: the paths that a cut upload may have left in any state.
    """

    digest: str = ""
    doubtful: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """current_kind: link, none, dir or file. target: what the link says. directories: names in releases/.
    incoming, jobs: what interrupted commands have left: staging directories, and jobs, running or not.
    manifests: what is kept about the cache and the live release, without reading it.
    """

    current_kind: str
    target: str | None
    directories: frozenset[str]
    records: dict[str, Record]
    shared_present: frozenset[str]
    space: Space | None
    incoming: frozenset[str]
    jobs: frozenset[str]
    deploy_to_kind: str
    damaged: tuple[str, ...] = ()
    manifests: dict[str, Kept] = field(default_factory=dict)

    @property
    def live(self) -> str | None:
        """The id (the directory's name) that `current` points at."""
        return posixpath.basename(self.target.rstrip("/")) if self.target else None

    def require_link(self, layout: Layout) -> None:
        """Raise HostNotReady when `current` is something that no rename could replace."""
        if self.current_kind in ("link", "none"):
            return
        what = "directory" if self.current_kind == "dir" else "file"
        kept = f"{layout.deploy_to}/current.before-switchover"
        raise HostNotReady(
            f"{layout.current} is a real {what}, not a symlink.",
            "Switchover replaces one symlink; it does not remove what somebody else put there.",
            f"Move it away on the host: mv {quote(layout.current)} {quote(kept)} "
            "(the site is down until the next deployment), or choose another deploy_to.",
        )


def asking(layout: Layout, shared: Iterable[str] = ()) -> Part:
    """What reads the state, for a batch; its output is for parse(). Changes nothing."""
    return Part(f"Reading {layout.deploy_to}", _script(layout, shared), needed=False)


def parse(result: Result, what: str) -> State:
    """The state, from what asking() printed. Raises CommandFailed where that failed."""
    if result.status != 0:
        raise failed(what, result)
    rows = [line.split("\t", 2) for line in result.text.split("\n")]
    found = {row[0]: row[1:] for row in rows if row[0] in ("current", "root")}
    records, damaged = {}, []
    for row in rows:
        if row[0] == "record":
            try:
                records[row[1]] = Record.loads(row[2])
            except (ValueError, TypeError):
                damaged.append(row[1])
    kind = found["current"][0]
    df = "\n".join(row[1] for row in rows if row[0] == "df" and len(row) == 2)
    return State(
        kind,
        found["current"][1] if kind == "link" else None,
        frozenset(row[1] for row in rows if row[0] == "release"),
        dict(sorted(records.items())),
        frozenset(row[1] for row in rows if row[0] == "shared"),
        parse_space(df) if df else None,
        frozenset(row[1] for row in rows if row[0] == "incoming"),
        frozenset(row[1] for row in rows if row[0] == "jobs"),
        found["root"][0],
        tuple(damaged),
        {
            row[1]: Kept(row[2], frozenset(unescape(r[2]) for r in rows if r[:2] == ["touched", row[1]]))
            for row in rows
            if row[0] == "manifest"
        },
    )


def known(host: Host, folder: str, kept: Kept | None, like: Manifest | None = None) -> Known:
    """What a directory holds, by the manifest kept for it in `folder`. `kept`, where it is given, is what the
    state says of it; a manifest that we have met before is then not read again. like: see Manifest.loads.
    """
    if kept and kept.digest and (data := remembered.manifest(kept.digest)):
        return Known(Manifest.loads(data, like), kept.doubtful, kept.digest)
    return read_manifest(host, folder, like)


def read_manifest(host: Host, folder: str, like: Manifest | None = None) -> Known:
    """Read the manifest kept in `folder` (none, or a damaged one: nothing is known)."""
    name, doubt = quote(f"{folder}/manifest"), quote(f"{folder}/touched")
    pack = "gzip -c" if host.has("gzip") else "cat"
    script = (
        f"[ -f {name} ] || exit 0; {{ [ -f {doubt} ] && cat {doubt}; printf '\\036'; cat {name}; }} | {pack}"
    )
    data = host.shell.run(script, what="Reading the manifest").out
    if not data:
        return Known()
    if host.has("gzip"):
        import gzip

        data = gzip.decompress(data)
    doubtful, _, text = data.partition(b"\x1e")
    paths = doubtful.decode("utf-8", "surrogateescape").split("\n")[:-1]
    try:
        manifest = Manifest.loads(text, like)
    except ValueError:
        return Known()
    return Known(manifest, frozenset(unescape(path) for path in paths), remembered.keep_manifest(text))


def _script(layout: Layout, shared: Iterable[str]) -> str:
    tests = "; ".join(
        f"[ -e {quote(f'{layout.shared}/{path}')} ] || [ -L {quote(f'{layout.shared}/{path}')} ] "
        f"&& printf 'shared\\t%s\\n' {quote(path)}"
        for path in shared
    )
    return f"""
root={quote(layout.deploy_to)}
kind() {{
  if [ -L "$1" ]; then echo link; elif [ -d "$1" ]; then echo dir
  elif [ -e "$1" ]; then echo file; else echo none; fi
}}
printf 'root\\t%s\\n' "$(kind "$root")"
k=$(kind "$root/current")
t=; [ "$k" = link ] && t=$(readlink "$root/current")
printf 'current\\t%s\\t%s\\n' "$k" "$t"
for d in "$root"/releases/*/; do
  d=${{d%/}}; [ -d "$d" ] && printf 'release\\t%s\\n' "${{d##*/}}"
done
for f in "$root"/.switchover/releases/*/record.json; do
  [ -f "$f" ] || continue
  id=${{f%/record.json}}; printf 'record\\t%s\\t%s\\n' "${{id##*/}}" "$(cat "$f")"
done
for kind in incoming jobs; do for d in "$root/.switchover/$kind"/*/; do
  d=${{d%/}}; [ -d "$d" ] && printf '%s\\t%s\\n' "$kind" "${{d##*/}}"
done; done
p=$root; while [ ! -d "$p" ] && [ -n "$p" ]; do p=${{p%/*}}; done
df -Pk "${{p:-/}}" 2>/dev/null | sed 's/^/df\t/'
df -Pi "${{p:-/}}" 2>/dev/null | sed 's/^/df\t/'
kept() {{
  [ -f "$2/manifest" ] || return 0
  printf 'manifest\\t%s\\t%s\\n' "$1" "$(sha256sum < "$2/manifest" 2>/dev/null | cut -c 1-64)"
  [ ! -f "$2/touched" ] || sed "s/^/touched	$1	/" "$2/touched"
}}
kept cache "$root/.switchover/cache"
[ -z "$t" ] || kept live "$root/.switchover/releases/${{t##*/}}"
{tests or ":"}
:
"""
