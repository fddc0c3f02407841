"""What is served: whether programs still use a release that is not live, and what the health URL says."""

from __future__ import annotations

from ...remote.shell import quote
from ..examination import Examination, lines
from ..rules import serving as rules

FETCHED_WITHIN = 5  # seconds for the health URL

# What processes of this account (of others /proc tells nothing) have open, run, or stand in below releases/;
# how nginx hands paths to PHP, where its configuration names this site and can be read.
SCRIPT = r"""
root=ROOT
live=$(cd "$root/current" 2>/dev/null && pwd -P)
printf 'live\t%s\n' "$live"
releases=$(cd "$root/releases" 2>/dev/null && pwd -P) || exit 0
{ ls -ld /proc/[0-9]*/cwd /proc/[0-9]*/exe; ls -l /proc/[0-9]*/fd; } 2>/dev/null |
  awk -v below=" -> $releases/" -v live=" -> $live/" '
    /^\/proc\/[0-9]+\/fd:$/ { split($0, part, "/"); pid = part[3]; kind = "open file" }
    index($0, below) && !index($0 "/", live) {
      at = index($0, " -> "); path = substr($0, at + 4); p = pid; k = kind
      if (match($0, "/proc/[0-9]+/(cwd|exe) -> ")) {
        split(substr($0, RSTART, RLENGTH), part, "/"); p = part[3]; k = part[4]; sub(/ .*/, "", k)
      }
      if (!((p, path) in told) && n++ < 40) { told[p, path]; print p "\t" k "\t" path }
    }' |
  while IFS='	' read -r p kind path; do
    printf 'process\t%s\t%s\t%s\t%s\n' "$p" "$(cat "/proc/$p/comm" 2>/dev/null)" "$kind" "$path"
  done
grep -rlF -- "$root/current" /etc/nginx 2>/dev/null | head -n 5 | while IFS= read -r f; do
  grep -qE '^[^#]*fastcgi_pass' "$f" 2>/dev/null || continue
  ! grep -qE '^[^#]*SCRIPT_FILENAME[[:space:]].*[$]realpath_root' "$f" || continue
  set -- "$f"
  for i in fastcgi_params fastcgi.conf snippets/fastcgi-php.conf; do
    ! grep -qF "$i" "$f" || set -- "$@" "/etc/nginx/$i"
  done
  grep -nE '^[^#]*SCRIPT_FILENAME[[:space:]].*[$]document_root' /dev/null "$@" 2>/dev/null |
    head -n 1 | sed 's/^/nginx\t/'
done
"""

# The header is not shown: what is wanted is the status, and whether the text names the live release.
FETCH = r"""
url=URL
live=$(basename "$(readlink ROOT/current 2>/dev/null)" 2>/dev/null)
revision=$(head -n 1 ROOT/current/REVISION 2>/dev/null | cut -c 1-100)
if command -v curl >/dev/null 2>&1; then
  text=$(curl -sk -m SECONDS -w '\n%{http_code}' -- "$url" 2>/dev/null); status=${text##*
}
elif command -v wget >/dev/null 2>&1; then
  text=$(wget -q -T SECONDS -O - "$url" 2>/dev/null) && status=200 || status=
else exit 0; fi
printf 'status\t%s\n' "$status"
for word in "$live" "$revision"; do
  [ -n "$word" ] || continue
  case $text in *"$word"*) printf 'names\t%s\n' "$word" ;; esac
done
for d in ROOT/releases/*/; do
  d=${d%/}; d=${d##*/}
  [ "$d" = "$live" ] || case $text in *"$d"*) printf 'older\t%s\n' "$d" ;; esac
done
"""


def look(e: Examination) -> str:
    """Name what still serves an older release."""
    assert e.layout is not None
    if e.state is not None and e.state.current_kind == "none":
        return "no release is live"
    if "awk" not in e.programs:
        return "the host has no awk"
    found = e.script(SCRIPT.replace("ROOT", quote(e.layout.deploy_to)))
    live = lines(found, "live")
    if not live:
        return "no release is live"
    if e.settings.health:
        text = FETCH.replace("URL", quote(str(e.settings.health.url)), 1)
        text = text.replace("ROOT", quote(e.layout.deploy_to)).replace("SECONDS", str(FETCHED_WITHIN))
        rules.fetched(e, e.script(text, FETCHED_WITHIN + 5), e.settings.health.expect_status)
    rules.processes(e, live, found.get("process", []), found.get("nginx", []))
    return ""
