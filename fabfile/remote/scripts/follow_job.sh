#!/bin/sh
# Prints the log of a job until it has ended.
# In:   $job, its directory; $offset, the bytes of the log to pass over; $first and $second, the halves of a
#       mark; $unstarted, the turns after which a job that nobody has claimed counts as lost.
# Out:  stdout: the log. stderr: a line of the mark and how it ended: ended STATUS, late, gone (its process
#       is, and left no status) or unclaimed; and a newline now and then, which is traffic on this channel, as
#       sshd's ChannelTimeout wants to see.
# Exit: 0
: "${job?}" "${offset?}" "${first?}" "${second?}" "${unstarted?}"
. ./process.sh
tell() {
  size=$( (wc -c < "$job/log") 2>/dev/null || echo 0)
  if [ "$size" -gt "$offset" ]; then
    tail -c "+$((offset + 1))" "$job/log" | head -c "$((size - offset))"
    offset=$size
  fi
}
say() { printf '\n%s%s %s\n' "$first" "$second" "$1" >&2; exit 0; }
turns=0
# Most jobs are short, and their end is what is waited for.
while [ ! -f "$job/status" ] && [ $turns -lt 30 ] && sleep 0.01 2>/dev/null; do turns=$((turns + 1)); done
turns=0
while :; do
  # Liveness is judged before the status is looked for: a job that ends between the two is no lost one.
  alive; living=$?
  if [ -f "$job/status" ]; then
    tell
    [ ! -f "$job/late" ] || say late
    say "ended $(cat "$job/status")"
  fi
  tell
  [ $living != 1 ] || say gone
  [ $living != 2 ] || [ $turns -le "$unstarted" ] || say unclaimed
  turns=$((turns + 1))
  [ $((turns % 4)) != 0 ] || echo >&2
  if [ $turns -lt 10 ]; then sleep 0.05 2>/dev/null || sleep 1; else sleep 0.2 2>/dev/null || sleep 1; fi
done
