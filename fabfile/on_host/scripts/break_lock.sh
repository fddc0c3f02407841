#!/bin/sh
# Releases the lock that counts, whoever has it.
# In:   $locks, their directory; $token: only where its owner says this one ("": whoever it is). See locks.sh.
# Exit: 0; 1 where it can't be written
: "${locks?}" "${token?}"
. ./locks.sh
umask 077
cd "$locks" >/dev/null 2>&1 || exit 0
find_top
[ "$top" -gt 0 ] || exit 0
[ -z "$token" ] || grep -q "$token" "$top/owner" || exit 0
{ [ -n "$token" ] || echo broken; } > "$top/released"
