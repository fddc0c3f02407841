"""The scripts of jobs: what runs one on the host, follows it, and ends it.

Whether a process is a job's is never guessed: its pid, start time and boot are compared with what the runner
wrote down, and what the runner has started carries the same three in its environment.
"""

from __future__ import annotations

UNSTARTED = 10  # seconds after which a job that nobody has claimed counts as lost

# started PID: when it was started, to the tick (Linux) or the second (BSD's ps); nothing where nobody says.
_STARTED = r"""
started() {
  if [ -r "/proc/$1/stat" ]; then sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
  elif [ ! -d /proc/self ]; then TZ=UTC ps -o lstart= -p "$1" 2>/dev/null | tr -sc 'A-Za-z0-9:\n' _; fi
}
booted() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo 0; }
"""

# named: the process that the job in $J names, as $pid, $start and $boot; false where there can't be
# one. stray: it names something else. alive: whether that process lives: 0 yes, 1 no, 2 none is named;
# $proven is empty where a process of that number lives and nothing tells whether it is the same.
PROCESS = rf"""
{_STARTED}
named() {{
  claim=$(readlink "$J/process" 2>/dev/null) || return 1
  pid=${{claim%% *}}; start=${{claim#* }}; boot=${{start#* }}; start=${{start%% *}}
  case $pid in ''|*[!0-9]*|0*|1|???????????*) return 1 ;; esac
  case $start in ''|*[!A-Za-z0-9:_]*) return 1 ;; esac
  case $boot in ''|*[!A-Za-z0-9-]*) return 1 ;; esac
  [ "$claim" = "$pid $start $boot" ]
}}
stray() {{ {{ [ -e "$J/process" ] || [ -L "$J/process" ]; }} && ! named; }}
alive() {{
  proven=
  named || return 2
  case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in [ZX]*) return 1 ;; esac  # nobody has reaped it
  now=$(started "$pid")
  if [ -z "$now" ] && [ -d /proc/self ]; then return 1; fi
  if [ -z "$now" ] || [ "$start" = 0 ]; then kill -0 "$pid" 2>/dev/null; return; fi
  [ "$now" = "$start" ] && [ "$(booted)" = "$boot" ] || return 1
  proven=1
}}
"""

# signal NAME: sends it to the group of the runner $pid where setsid has made it one and it is $proven, and to
# all that carry its mark; without /proc to what descends from it.
_SIGNAL = r"""
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
"""

# Runs the job whose directory is the current one; $1 is its deadline in seconds. The trap keeps it alive when
# all its processes are ended together, to write down how the job ended.
RUNNER = rf"""
{_STARTED}
{_SIGNAL}
umask 077
pid=$$ proven=1
start=$(started $$); start=${{start:-0}}; boot=$(booted)
ln -s "$pid $start $boot" process 2>/dev/null || exit 0
SWITCHOVER_JOB="$pid $start $boot"; export SWITCHOVER_JOB
trap : TERM HUP INT
head -c 8192 /dev/zero > room 2>/dev/null
(
  if [ -f environment ]; then unset LC_ALL; . ./environment; else umask 022; fi
  exec /bin/sh ./script
) > log 2>&1 < /dev/null &
child=$!
(
  trap : TERM HUP INT
  n=0; while [ $n -lt "$1" ]; do
    [ ! -f status ] && [ -L process ] || exit 0
    sleep 1; n=$((n + 1))
  done
  : > late; signal TERM; sleep 5
  [ -f status ] || {{ echo 137 > status.new && mv status.new status; }}
  signal KILL
) &
watch=$!
wait $child; status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
rm -f script environment
# On a full disk a job can't say why it failed, nor could we write down that it did, but for the room we kept.
rm -f room
why=; [ $status = 0 ] || why=$(head -c 65536 /dev/zero 2>&1 > room)
rm -f room; [ -z "$why" ] || echo "$why" >> log
echo $status > status.new && mv status.new status
[ -f late ] || kill -KILL $watch 2>/dev/null
:
"""

# Prints the log of the job in $J from $offset on until there is a status, and says on stderr how it ended,
# behind a mark of two halves. Liveness is judged before the status is looked for, so a job that ends between
# the two is not taken for a lost one. A newline on stderr now and then is traffic on this channel, which
# sshd's ChannelTimeout wants to see.
FOLLOW = rf"""
{PROCESS}
tell() {{
  size=$( (wc -c < "$J/log") 2>/dev/null || echo 0)
  if [ "$size" -gt "$offset" ]; then
    tail -c "+$((offset + 1))" "$J/log" | head -c "$((size - offset))"
    offset=$size
  fi
}}
say() {{ printf '\n%s%s %s\n' "$first" "$second" "$1" >&2; exit 0; }}
turns=0
# Most jobs are short, and their end is what is waited for.
while [ ! -f "$J/status" ] && [ $turns -lt 30 ] && sleep 0.01 2>/dev/null; do turns=$((turns + 1)); done
turns=0
while :; do
  alive; living=$?
  if [ -f "$J/status" ]; then
    tell
    [ ! -f "$J/late" ] || say late
    say "ended $(cat "$J/status")"
  fi
  tell
  [ $living != 1 ] || say gone
  [ $living != 2 ] || [ $turns -le {UNSTARTED * 5} ] || say unclaimed
  turns=$((turns + 1))
  [ $((turns % 4)) != 0 ] || echo >&2
  if [ $turns -lt 10 ]; then sleep 0.05 2>/dev/null || sleep 1; else sleep 0.2 2>/dev/null || sleep 1; fi
done
"""

# cancel: ends the job in $J and its children; they get 5 s before they are killed.
CANCEL = rf"""
{PROCESS}
{_SIGNAL}
cancel() {{
  [ ! -f "$J/status" ] || return 0
  alive; [ $? != 2 ] || return 0
  signal TERM
  n=0; while [ $n -lt 25 ] && {{ alive || [ -n "$(members)" ]; }}; do
    sleep 0.2 2>/dev/null || sleep 1; n=$((n + 1))
  done
  [ $n = 0 ] || {{ alive; signal KILL; }}
}}
"""
