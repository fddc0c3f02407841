#!/bin/sh
# Whether a release has all paths of its manifest, as far as the host can tell (odd names it can't).
# In:   $manifest, the file; $release, the directory
# Exit: 0; 1 where a path is missing, or nothing is known
: "${manifest?}" "${release?}"
[ -f "$manifest" ] || exit 1
cd "$release" || exit 1
{ find . | sed 's|^[.]/||'; echo; tail -n +2 "$manifest" | cut -f 6; } |
  LC_ALL=C awk '!n && $0 == "" { n = 1; next } !n { have[$0]; next } !($0 in have) { exit 1 }'
