#!/bin/sh
# Runs the job whose directory is the current one: its `script`, in the account's own `environment` if there
# is one.
# In:   $1, seconds after which the job and its children are ended.
# Out:  the files `process` (the claim), `log`, `late` where it was ended, and `status`.
# Exit: 0; whoever has not got the claim does nothing.
. ./started.sh
. ./signal.sh
umask 077
pid=$$ proven=1
start=$(started $$); start=${start:-0}; boot=$(booted)
ln -s "$pid $start $boot" process 2>/dev/null || exit 0
SWITCHOVER_JOB="$pid $start $boot"; export SWITCHOVER_JOB
# It stays alive when all its processes are ended together, to write down how the job ended.
trap : TERM HUP INT
head -c 8192 /dev/zero > room 2>/dev/null
(
  # shellcheck disable=SC1091  # written when the job was started
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
  [ -f status ] || { echo 137 > status.new && mv status.new status; }
  signal KILL
) &
watch=$!
wait $child; status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
rm -f script environment account hook
# On a full disk a job can't say why it failed, nor could we write down that it did, but for the room we kept.
rm -f room
why=; [ $status = 0 ] || why=$(head -c 65536 /dev/zero 2>&1 > room)
rm -f room; [ -z "$why" ] || echo "$why" >> log
echo $status > status.new && mv status.new status
[ -f late ] || kill -KILL $watch 2>/dev/null
:
