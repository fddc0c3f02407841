"""What is served: whether programs still run in a release that is not live any more, or that is gone."""

from __future__ import annotations

from ...remote.shell import quote
from ..examination import Examination, lines
from ..finding import Fix

SHOWN = 5

# Processes of this account (of others /proc tells nothing), by the folder that they run in; and how nginx
# hands paths to PHP, where its configuration names this site and can be read.
SCRIPT = r"""
root=ROOT
printf 'live\t%s\n' "$(cd "$root/current" 2>/dev/null && pwd -P)"
releases=$(cd "$root/releases" 2>/dev/null && pwd -P) || exit 0
for p in /proc/[0-9]*; do
  t=$(readlink "$p/cwd" 2>/dev/null) || continue
  case $t in "$releases"/*) ;; *) continue ;; esac
  printf 'process\t%s\t%s\t%s\n' "${p##*/}" "$(cat "$p/comm" 2>/dev/null)" "$t"
done
grep -rlF -- "$root/current" /etc/nginx 2>/dev/null | head -n 5 | while IFS= read -r f; do
  set -- "$f" /etc/nginx/fastcgi_params /etc/nginx/fastcgi.conf /etc/nginx/snippets/fastcgi-php.conf
  grep -nE '^[^#]*(SCRIPT_FILENAME|DOCUMENT_ROOT)[[:space:]].*[$]document_root' "$@" 2>/dev/null |
    head -n 1 | sed 's/^/nginx\t/'
done
"""


def look(e: Examination) -> str:
    """Name what still serves an older release."""
    assert e.layout is not None
    found = e.script(SCRIPT.replace("ROOT", quote(e.layout.deploy_to)))
    live = lines(found, "live")
    rows = [row.split("\t", 2) for row in found.get("process", [])]
    old = [row for row in rows if len(row) == 3 and row[2] != live and not row[2].startswith(f"{live}/")]
    if not live:
        return "no release is live"
    if old:
        told = "; ".join(f"pid {pid} ({name}) runs in {where}" for pid, name, where in old[:SHOWN])
        e.warn(
            "serves-old", "A program still runs in a release that is not live any more.", told,
            "It serves the code that it was started with. Have it restarted or reloaded after each switch "
            "(hooks.after_switch).",
            Fix("config.yaml", 'hooks: {after_switch: ["systemctl --user restart APPLICATION"]}'),
            processes=[{"pid": pid, "name": name, "folder": where} for pid, name, where in old],
        )  # fmt: skip
    elif nginx := found.get("nginx", []):
        e.warn(
            "serves-old", "PHP may go on serving the release before, for up to two minutes.",
            "; ".join(dict.fromkeys(nginx)),
            "nginx hands PHP paths through the link (current/…), and PHP remembers for 120 s where they "
            "led. Hand it "
            "the real path, and reload nginx:",
            Fix("host", "sed -i 's/\\$document_root/$realpath_root/' " + quote(nginx[0].split(":")[0])),
            seen=nginx,
        )  # fmt: skip
    else:
        e.ok("serves-old", live=live)
    return ""
