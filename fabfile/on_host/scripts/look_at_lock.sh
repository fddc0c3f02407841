#!/bin/sh
# Says what state the lock is in; changes nothing.
# In:   $locks, their directory. See also locks.sh and expired.sh.
# Out:  fields apart by tabs, and no newline: free "" "" "", or
#       held yes|no SECONDS OWNER   (whether it has run out; since its last sign of life)
# Exit: 0
: "${locks?}"
. ./locks.sh
. ./expired.sh
free() { printf 'free\t\t\t'; exit 0; }
cd "$locks" >/dev/null 2>&1 || free
find_top
if [ "$top" = 0 ] || [ -e "$top/released" ]; then free; fi
expired && gone=yes || gone=no
printf 'held\t%s\t%s\t' "$gone" "$(($(date +%s) - ${last:-0}))"; signed "$top"
:
