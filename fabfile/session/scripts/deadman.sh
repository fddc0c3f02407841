#!/bin/sh
# The dead man's switch, as a job in a directory of its own: when nobody has touched the lock for too long, it puts
# the old link back, has the services take up the old release again, and writes down what it did.
# In:   $decision, the directory whose maker decides; $owner, the file that a living client touches; $within,
#       seconds; $current, the link; $fresh, a name for a new one; $new and $old, what the link says ($old is
#       empty where there was none); $report, the file for what was done; $hooks, how many; $limit, seconds for each.
#       Functions: `record` writes down that the new release is bad; `hook` prints the hook $1.
#       The file `account` in the working directory: the account's own environment, for the hooks.
# Exit: 0, also where it did not have to act; 1 where the link could not be put back
: "${decision?}" "${owner?}" "${within?}" "${current?}" "${fresh?}" "${new?}" "${old?}" "${report?}"
: "${hooks?}" "${limit?}"
. ../../remote/scripts/write_file.sh
while :; do
  sleep 1
  [ ! -d "$decision" ] || exit 0
  last=$(stat -c %Y "$owner" 2>/dev/null) || exit 0
  [ $(($(date +%s) - last)) -lt "$within" ] || break
done
mkdir "$decision" 2>/dev/null || exit 0
[ "$(readlink "$current")" = "$new" ] || exit 0
umask 077
when=$(date -u +%Y-%m-%dT%H:%M:%SZ)
report() {
  write_file "$report" "$(printf '%s\t%s\t%s\t%s' "$when" "${new##*/}" "$1" "$2")"
}
if [ -n "$old" ]; then
  rm -f "$fresh"; ln -s "$old" "$fresh" && mv -fT "$fresh" "$current" || exit 1
else
  rm -f "$current" || exit 1
fi
report none 0
record
number=0
while [ "$number" -lt "$hooks" ]; do
  number=$((number + 1))
  report begun "$number"
  # shellcheck disable=SC2094  # the one is a function, the other its file
  hook "$number" > hook
  # shellcheck disable=SC1091  # written when the job was started
  ( unset LC_ALL; . ./account; exec /bin/sh ./hook ) </dev/null &
  runs=$!
  (
    seconds=0
    while [ "$seconds" -lt "$limit" ]; do sleep 1; seconds=$((seconds + 1)); done
    kill "$runs"
  ) &
  watch=$!
  wait "$runs"; status=$?
  kill "$watch" 2>/dev/null
  [ "$status" = 0 ] || { report failed "$number"; exit 0; }
done
[ "$hooks" = 0 ] || report ok "$hooks"
