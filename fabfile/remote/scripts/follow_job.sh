#!/bin/sh
# Prints the log of a job until it has ended.
# In:   $job, its directory; $offset, the bytes of the log to pass over; $first and $second, the halves of a
#       mark; $unstarted, the turns after which a job that nobody has claimed counts as lost.
# Out:  stdout: pieces of the log, each behind a line of the mark and its size in bytes; then a line of the mark
#       and how the job ended: ended STATUS, late, gone (its process is, and left no status) or unclaimed.
#       stderr: a newline now and then, which is traffic on this channel, as sshd's ChannelTimeout wants to see.
# Exit: 0
: "${job?}" "${offset?}" "${first?}" "${second?}" "${unstarted?}"
. ./process.sh
say() { printf '%s%s %s\n' "$first" "$second" "$1"; }
tell() {
  size=$( (wc -c < "$job/log") 2>/dev/null || echo 0)
  if [ "$size" -gt "$offset" ]; then
    say $((size - offset))
    tail -c "+$((offset + 1))" "$job/log" | head -c "$((size - offset))"
    offset=$size
  fi
}
finish() { say "$1"; exit 0; }
turns=0
# Most jobs are short, and their end is what is waited for.
while [ ! -f "$job/status" ] && [ $turns -lt 30 ] && sleep 0.01 2>/dev/null; do turns=$((turns + 1)); done
turns=0
while :; do
  # Liveness is judged before the status is looked for: a job that ends between the two is no lost one.
  alive; living=$?
  if [ -f "$job/status" ]; then
    tell
    [ ! -f "$job/late" ] || finish late
    finish "ended $(cat "$job/status")"
  fi
  tell
  [ $living != 1 ] || finish gone
  [ $living != 2 ] || [ $turns -le "$unstarted" ] || finish unclaimed
  turns=$((turns + 1))
  [ $((turns % 4)) != 0 ] || echo >&2
  if [ $turns -lt 10 ]; then sleep 0.05 2>/dev/null || sleep 1; else sleep 0.2 2>/dev/null || sleep 1; fi
done
