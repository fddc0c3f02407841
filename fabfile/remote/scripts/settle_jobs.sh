#!/bin/sh
# Waits for jobs that still run, and removes those that did not end well.
# In:   $folder, the beginning of the names of their directories; $turns of half a second to wait for each.
# Out:  stderr: a newline now and then, which is traffic; the job that did not end
# Exit: 1 where one did not end in that time
: "${folder?}" "${turns?}"
. ./process.sh
for job in "$folder".*; do
  [ -d "$job" ] || continue
  n=0; while [ ! -f "$job/status" ] && alive && [ $n -lt "$turns" ]; do
    sleep 0.5 2>/dev/null || sleep 1; n=$((n + 1)); [ $((n % 8)) != 0 ] || echo >&2
  done
  if [ ! -f "$job/status" ] && alive; then echo "$job still runs, as process $pid" >&2; exit 1; fi
  [ "$(cat "$job/status" 2>/dev/null)" = 0 ] || rm -rf "$job"
done
