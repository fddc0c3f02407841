"""Storage: whether the file systems under deploy_to take what a deployment does. Tried, not guessed."""

from __future__ import annotations

from ...remote.shell import quote
from ..examination import PROBE, Examination, filled, lines, read_rows
from ..rules import storage as rules
from ..rules.tried import Tried

FOLDER_BYTES = 200_000  # written in each folder: a quota or a mount may be one folder's alone
TRIED_WITHIN = 15.0  # seconds for all of it

# Each folder that is there: what a deployment does in it. `begun` says where it hangs, if it does. Then what
# the file system itself can do, at deploy_to or the nearest folder above that is there.
SCRIPT = r"""
row() { printf '%s\t%s\n' "$1" "$2"; }
last() { tail -n 1 | sed 's/	/ /g'; }
try() { key=$1; shift; why=$( "$@" 2>&1 ) && row "$key" ok || row "$key" "$(echo "$why" | last)."; }
whose() { stat -c '%U:%G, mode %a' "$1" 2>/dev/null || ls -ld "$1" 2>/dev/null | cut -d ' ' -f 1-4; }
flags() { lsattr -d "$1" 2>/dev/null | cut -d ' ' -f 1; }
free() ( set -- $(df "$1" "$2" 2>/dev/null | tail -n 1); echo "$4" )
fill() { head -c FOLDER_BYTES /dev/zero > "$1" && [ "$(wc -c < "$1")" -eq FOLDER_BYTES ]; }
dozen() { for n in a b c d e f g h i j k l; do : > "$1/$n" || return 1; done; }
each() {
  step=$1; shift; why=$( "$@" 2>&1 ) && return 0
  left="$(free -Pk "$d")	$(free -Pi "$d")"
  row failed "$d	$step	$(whose "$d")	$left	$(echo "$why" | last)"; return 1
}
root=ROOT
p=$root; while [ ! -d "$p" ] && [ -n "$p" ]; do
  if [ -e "$p" ] || [ -L "$p" ]; then row odd "$p	$(ls -ld "$p" 2>&1 | last)"; fi
  p=${p%/*}
done; p=${p:-/}
row at "$p"; row whose "$(whose "$p")"
row type "$(stat -f -c %T "$p" 2>/dev/null)"
row df "$(df -Pk "$p" 2>/dev/null | tail -n 1)"; row dfi "$(df -Pi "$p" 2>/dev/null | tail -n 1)"
missing=; for s in SHARED; do [ -e "$root/shared/$s" ] || missing=yes; done
for d in FOLDERS; do
  if [ ! -d "$d" ]; then
    if [ -e "$d" ] || [ -L "$d" ]; then row odd "$d	$(ls -ld "$d" 2>&1 | last)"; fi
    continue
  fi
  [ "$d" != "$root/shared" ] || [ "$missing" ] || continue
  row begun "$d"
  case $(flags "$d") in *[ia]*) row locked "$d	$(flags "$d")" ;; esac
  f=$d/NAME-x
  rm -rf "$f" 2>/dev/null  # of a turn before, which was cut
  each mkdir mkdir "$f" && each write fill "$f/1" && each write dozen "$f" && each chmod chmod 640 "$f/1" &&
    each rename mv -f "$f/1" "$f/2" && each remove rm -r "$f"
  rm -rf "$f" 2>/dev/null
  row done "$d"
done
c=$root/current
if [ -L "$c" ]; then
  [ ! -k "$root" ] || row sticky "$(stat -c %U "$c" 2>/dev/null)	$(stat -c %U "$root" 2>/dev/null)"
fi
row begun "$p"
t=$p/NAME
rm -rf "$t" 2>/dev/null
try mkdir mkdir -m 700 "$t"
[ -d "$t" ] || exit 0
try write sh -c 'head -c 1048576 /dev/zero > "$1"' sh "$t/mb"
size=$(wc -c 2>/dev/null < "$t/mb" || echo 0); row written "$size"
try files sh -c 'for n in 1 2 3 4 5 6 7 8; do : > "$1/$n" || exit 1; done' sh "$t"
try symlink ln -s a "$t/link"
ln -s b "$t/fresh" 2>/dev/null
try mv_T mv -fT "$t/fresh" "$t/link"
try rename mv "$t/1" "$t/9"
row link "$(readlink "$t/link")"
try reflink cp --reflink=always "$t/mb" "$t/mb2"
try hardlink ln "$t/mb" "$t/mb3"
for d in releases cache .switchover .switchover/incoming; do
  d=$root/$d; [ -d "$d" ] && [ -w "$d" ] || continue
  f=$d/NAME-x; : > "$f" 2>/dev/null || continue
  try "across	${d#"$root"/}" ln "$f" "$t/across"; rm -f "$f" "$t/across"
done
rm -rf "$t"
row done "$p"
"""


def try_it(e: Examination) -> str:
    """Everything that a deployment does to its file systems, once, on a small scale."""
    assert e.layout is not None
    shared = " ".join(quote(path) for path in (*e.settings.shared.dirs, *e.settings.shared.files)) or "''"
    at = e.layout
    folders = (
        at.deploy_to, at.releases, at.cache, at.shared, at.own, at.locks, at.records, at.incoming, at.jobs,
        at.cache_state,
    )  # fmt: skip
    text = filled(
        SCRIPT, ROOT=quote(at.deploy_to), NAME=f"{PROBE}{e.token}-s", SHARED=shared,
        FOLDERS=" ".join(map(quote, folders)), FOLDER_BYTES=str(FOLDER_BYTES),
    )  # fmt: skip
    said = e.ask(text, TRIED_WITHIN)
    found = read_rows(said.out)
    if rules.hangs(e, found, said.ended, TRIED_WITHIN):
        return "a path hangs"
    e.complete(said)
    e.facts["file system"] = lines(found, "type") or "?"
    e.grant("deploy_to")
    tried = Tried.of(found, e.layout, e.said.get("user", ""))
    releases = e.state.records.values() if e.state else ()
    return rules.judge(e, tried, max((record.bytes for record in releases), default=0))
