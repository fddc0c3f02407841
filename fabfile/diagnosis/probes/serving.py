"""What is served: whether programs still use a release that is not live, and what the health URL says."""

from __future__ import annotations

from ...remote.shell import quote
from ...session.hooks import curl_quoted
from ...settings.model import Health
from ..examination import Examination, filled, lines, read_rows
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

# Fetched as a deployment does: the URL, which may hold a password or a token, is no argument of anything, and
# a certificate that nobody trusts is no answer. The last line is the status; the end of a text is kept.
FETCH = r"""
live=$(basename "$(readlink ROOT/current 2>/dev/null)" 2>/dev/null)
revision=$(head -n 1 ROOT/current/REVISION 2>/dev/null | cut -c 1-100)
fetch() {
  if command -v curl >/dev/null 2>&1; then
    printf 'url = "%s"\n' CURL_URL | curl -sg -m SECONDS -w '\n%{http_code}' -K - 2>/dev/null
  else
    printf '%s\n' WGET_URL | wget -q -t 1 -T SECONDS -O - -i - 2>/dev/null && printf '\n200' || printf '\n'
  fi
}
command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 || exit 0
text=$(fetch | tail -c 1000000; echo .)
text=${text%.}; status=${text##*
}
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
    found = e.script(filled(SCRIPT, ROOT=quote(e.layout.deploy_to)))
    live = lines(found, "live")
    if not live:
        return "no release is live"
    if e.settings.health:
        _fetch(e, e.settings.health, e.layout.deploy_to)
    rules.processes(e, live, found.get("process", []), found.get("nginx", []))
    return ""


def _fetch(e: Examination, health: Health, root: str) -> None:
    url = str(health.url)
    text = filled(FETCH, ROOT=quote(root), CURL_URL=quote(curl_quoted(url)), WGET_URL=quote(url),
                  SECONDS=str(FETCHED_WITHIN))  # fmt: skip
    e.make_room()
    said = e.host.shell.run(
        text,
        what="Fetching the health URL",
        timeout=FETCHED_WITHIN + 5,
        check=False,
        repeat=False,
        secret=True,
    )
    rules.fetched(e, read_rows(said.out), health.expect_status)
