#!/bin/sh
# expired: whether the lock $top has run out: no sign of life for the lease's time, and no job that runs. Sets
# $last to its last sign of life, in seconds since 1970, where there is one.
# In: $lease, in seconds; $unsigned, the same for a lock that nobody has signed; the locks are in the working
#     directory, and the jobs in ../jobs.
. ../../remote/scripts/process.sh
: "${lease?}" "${unsigned?}"
# shellcheck disable=SC2154  # find_top sets $top
expired() {
  limit=$lease; [ -f "$top/owner" ] || limit=$unsigned
  last=$(stat -c %Y "$top/owner" 2>/dev/null || stat -c %Y "$top" 2>/dev/null) || return 1
  age=$(($(date +%s) - last))
  # A time that is as far in the future is no sign of life either.
  [ $age -gt "$limit" ] || [ $age -lt "-$limit" ] || return 1
  for job in ../jobs/*; do
    if [ -d "$job" ] && [ ! -f "$job/status" ] && alive; then return 1; fi
  done
}
