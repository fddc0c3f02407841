#!/bin/sh
# shellcheck disable=SC2154  # what goes in is set by who calls
# signal NAME: sends it to the group of the runner $pid where setsid has made it one and it is $proven, and to
# all that carry its mark; without /proc to what descends from it.
# In: $pid, $start, $boot and $proven, as process.sh sets them.
# members: prints the process ids of those that carry the mark.
descendants() {
  ps -A -o ppid= -o pid= 2>/dev/null | awk -v top="$pid" '
    { parent[$2] = $1 }
    END { for (p in parent) { q = p; while (q != top && q in parent) q = parent[q]; if (q == top) print p } }'
}
members() {
  if [ -d /proc/self ]; then
    grep -lsF "SWITCHOVER_JOB=$pid $start $boot" /proc/[0-9]*/environ | cut -d / -f 3
  elif [ "$proven" ]; then descendants; fi
}
signal() {
  all=$(members)
  # Not `kill -0 -- -PID`: dash and BusyBox don't know it.
  if [ "$proven" ] && kill -0 "-$pid" 2>/dev/null; then kill "-$1" "-$pid" 2>/dev/null; fi
  for one in $all; do kill "-$1" "$one" 2>/dev/null; done
}
